//! The client library of Meridian: everything that a reader or submitter does.

pub mod altda;
pub mod audit;
pub mod certificates;
pub mod chain;
pub mod cli;
pub mod committee_source;
pub mod evidence;
pub mod fetch;
pub mod files;
pub mod guard;
pub mod key;
pub mod kzg;
pub mod light;
pub mod logs;
pub mod namespaces;
pub mod nearest;
mod progress;
pub mod rpc;
pub mod submit;
pub mod survey;
pub mod time;
pub mod tls;
pub mod tokens;
pub mod trace;

pub use progress::{Progress, Silent};

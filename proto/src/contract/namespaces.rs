//! The registry of namespaces: whose they are, and who else may write under them.

use alloy_primitives::Bytes;
use alloy_sol_types::sol;

/// Generated types of the contract's interface.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod generated {
    use super::sol;

    sol! {
        #![sol(extra_derives(Debug))]

        contract NamespaceRegistry {
            event NamespaceCreated(bytes32 indexed namespace, address indexed owner);
            event NamespaceOffered(bytes32 indexed namespace, address indexed to);
            event NamespaceTransferred(bytes32 indexed namespace, address indexed from, address indexed to);
            event WriterAllowed(bytes32 indexed namespace, address indexed writer);
            event WriterDenied(bytes32 indexed namespace, address indexed writer);

            function create(bytes32 salt) external returns (bytes32 namespace);
            function offer(bytes32 namespace, address to) external;
            function accept(bytes32 namespace) external;
            function allow(bytes32 namespace, address writer) external;
            function deny(bytes32 namespace, address writer) external;

            function namespaceOf(address creator, bytes32 salt) external view returns (bytes32);
            function ownerOf(bytes32 namespace) external view returns (address);
            function offeredTo(bytes32 namespace) external view returns (address);
            function mayWrite(bytes32 namespace, address writer) external view returns (bool);

            error AlreadyCreated(bytes32 namespace);
            error NobodyMayWrite();
            error NotOffered(bytes32 namespace, address offered);
            error NotTheOwner(bytes32 namespace, address owner);
        }
    }
}

pub use generated::*;

/// The contract's creation code; it takes no arguments.
pub const BYTECODE: Bytes =
    Bytes::from_static(include_bytes!(concat!(env!("OUT_DIR"), "/NamespaceRegistry.bin")));

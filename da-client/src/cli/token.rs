//! `da token`.

use meridian_proofs::ids::Namespace;

use super::Printed;
use super::args::{TokenFileArgs, TokenNewArgs, TokenRevokeArgs};
use super::exit::{Exit, Problem};
use super::report::{TokenMadeReport, TokenReport, TokensReport};
use super::text::{fields, table};
use crate::submit::unix_now;
use crate::time::utc;
use crate::tokens::{Token, Tokens, TokensError};

/// What to tell of a file of tokens that cannot be used.
#[allow(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(crate) fn problem(error: TokensError) -> Problem {
    match &error {
        TokensError::File { path, source } => Problem::file(path, source),
        TokensError::Content { .. } => {
            Problem::new(Exit::Local, "TOKENS_INVALID", error, "make the file with da token new")
        }
        TokensError::Randomness(_) => Problem::local(error),
        TokensError::Name(_) | TokensError::Taken(_) => Problem::usage(error, "choose another --name"),
        TokensError::NoSuch(_) => Problem::usage(error, "da token list shows the names"),
    }
}

fn report(token: &Token, now: u64) -> TokenReport {
    TokenReport {
        name: token.name.clone(),
        namespaces: token.namespaces.iter().map(Namespace::to_string).collect(),
        expiry: token.expiry,
        expired: now >= token.expiry,
    }
}

/// Makes a token.
pub(crate) fn new(args: TokenNewArgs) -> Result<Printed, Problem> {
    let TokenNewArgs { file: TokenFileArgs { file }, name, mut namespace, valid_for } = args;
    if namespace.is_empty() {
        namespace.push(Namespace::default());
    }
    let now = unix_now();
    // What a file can hold.
    let expiry = now.checked_add(valid_for).filter(|expiry| i64::try_from(*expiry).is_ok() && valid_for > 0);
    let expiry = expiry.ok_or_else(|| {
        Problem::usage("--valid-for is no time that a token can be valid for", "give a time like 90d")
    })?;
    let secret =
        Tokens::change(&file, true, |tokens| tokens.add(&name, namespace, expiry)).map_err(problem)?;
    eprintln!("da: token {name} is valid until {}; it is shown this once", utc(expiry));
    let text = secret.reveal().to_owned();
    Printed::new(&TokenMadeReport { name, expiry, token: text.clone() }, text)
}

/// Lists the tokens.
pub(crate) fn list(args: &TokenFileArgs) -> Result<Printed, Problem> {
    let tokens = Tokens::load(&args.file).map_err(problem)?;
    let now = unix_now();
    let tokens: Vec<TokenReport> = tokens.list().map(|token| report(token, now)).collect();
    let rows = tokens.iter().map(|token| {
        let until = if token.expired { "ended" } else { "valid until" };
        vec![token.name.clone(), format!("{until} {}", utc(token.expiry)), token.namespaces.join("\n")]
    });
    let text = table(&["token", "", "namespaces"], rows);
    Printed::new(&TokensReport { tokens }, text)
}

/// Takes a token away.
pub(crate) fn revoke(args: &TokenRevokeArgs) -> Result<Printed, Problem> {
    let revoke = |tokens: &mut Tokens| tokens.revoke(&args.name);
    let token = Tokens::change(&args.file.file, false, revoke).map_err(problem)?;
    let report = report(&token, unix_now());
    let text = fields(&[("revoked", report.name.clone()), ("was valid until", utc(report.expiry))]);
    Printed::new(&report, text)
}

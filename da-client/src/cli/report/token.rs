//! What the commands about tokens print.

use crate::cli::schema::report;

report! {
    /// What `da token new` prints.
    TokenMadeReport {
        /// Its name.
        name: String,
        /// When it ends, in unix seconds.
        expiry: u64,
        /// The token, which is kept nowhere.
        token: String,
    }
}

report! {
    /// A token.
    TokenReport {
        /// Its name.
        name: String,
        /// Namespaces that it may write to.
        namespaces: Vec<String>,
        /// When it ends, in unix seconds.
        expiry: u64,
        /// Whether it has ended.
        expired: bool,
    }
}

report! {
    /// What `da token list` prints.
    TokensReport {
        /// The tokens by name.
        tokens: Vec<TokenReport>,
    }
}

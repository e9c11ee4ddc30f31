//! What a node means when it refuses a transaction. JSON-RPC has no codes for it, so its words count.

/// Why a node did not take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has this very one.
    Known,
    /// One with this nonce is in a block already.
    NonceUsed,
    /// It pays too little, for the node or to replace another.
    Underpriced,
    /// The account cannot pay.
    Funds,
    /// Anything else.
    Other,
}

/// Words of geth, Erigon, Nethermind, Besu, reth, anvil and the Cosmos chains with an EVM.
const WORDS: [(&str, Refusal); 18] = [
    ("already known", Refusal::Known),
    ("alreadyknown", Refusal::Known),
    ("known transaction", Refusal::Known),
    ("already imported", Refusal::Known),
    ("already in mempool", Refusal::Known),
    ("tx already exists in cache", Refusal::Known),
    ("nonce too low", Refusal::NonceUsed),
    ("nonce is too low", Refusal::NonceUsed),
    ("oldnonce", Refusal::NonceUsed),
    ("invalid nonce", Refusal::NonceUsed),
    ("underpriced", Refusal::Underpriced),
    ("fee too low", Refusal::Underpriced),
    ("feetoolow", Refusal::Underpriced),
    ("insufficient fee", Refusal::Underpriced),
    ("less than block base fee", Refusal::Underpriced),
    ("gas price below", Refusal::Underpriced),
    ("insufficient funds", Refusal::Funds),
    ("insufficientfunds", Refusal::Funds),
];

impl Refusal {
    pub(super) fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        WORDS.iter().find(|(words, _)| message.contains(words)).map_or(Self::Other, |(_, refusal)| *refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn the_words_of_nodes_are_understood() {
        for (words, refusal) in [
            ("already known", Refusal::Known),
            ("AlreadyKnown", Refusal::Known),
            ("transaction already imported", Refusal::Known),
            ("nonce too low: next nonce 4, tx nonce 3", Refusal::NonceUsed),
            ("invalid nonce; got 3, expected 4: invalid sequence", Refusal::NonceUsed),
            ("OldNonce", Refusal::NonceUsed),
            ("replacement transaction underpriced", Refusal::Underpriced),
            ("transaction underpriced: gas tip cap 0, minimum needed 1", Refusal::Underpriced),
            ("FeeTooLow, MaxFeePerGas too low", Refusal::Underpriced),
            ("max fee per gas less than block base fee: address 0x1", Refusal::Underpriced),
            ("insufficient fees; got: 1 required: 2: insufficient fee", Refusal::Underpriced),
            ("insufficient funds for gas * price + value: balance 0", Refusal::Funds),
            ("Insufficient funds for gas * price + value", Refusal::Funds),
            ("intrinsic gas too low", Refusal::Other),
            ("", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(words), refusal, "{words}");
        }
    }
}

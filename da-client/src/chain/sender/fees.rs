//! What a transaction pays for gas.

/// A replacement pays at least an eighth more, 12.5%: the most that any common node asks for.
const BUMP: u128 = 8;

/// Which transactions are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Dynamic fees where blocks have a base fee and the node suggests a tip, else a gas price.
    #[default]
    Auto,
    /// Always a gas price.
    Legacy,
    /// Always dynamic fees (EIP-1559).
    Dynamic,
}

/// What a node says of prices, in wei for each unit of gas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Base fee of the latest block; nothing where blocks have none.
    pub base_fee: Option<u128>,
    /// The tip that it suggests; nothing where it does not know such a thing.
    pub tip: Option<u128>,
    /// The gas price that it suggests.
    pub gas_price: Option<u128>,
}

/// What a transaction offers, in wei for each unit of gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fees {
    /// One price (before EIP-1559).
    Legacy {
        /// The price.
        price: u128,
    },
    /// At most `max`, of which at most `tip` goes to whoever makes the block.
    Dynamic {
        /// Most for everything.
        max: u128,
        /// Most over the base fee.
        tip: u128,
    },
}

impl Fees {
    /// What to offer at these prices; nothing when it would be over the cap, or the node says too little.
    #[must_use]
    pub fn at(prices: &Prices, style: Style, cap: u128) -> Option<Self> {
        let base = prices.base_fee;
        let dynamic = || {
            let (base, tip) = base.zip(prices.tip)?;
            // Twice the base fee: it rises by an eighth a block, so this lasts for five full ones.
            let max = base.saturating_mul(2).saturating_add(tip).min(cap);
            (base <= cap).then_some(Self::Dynamic { max, tip: tip.min(max) })
        };
        let legacy = || {
            // Some nodes suggest a price below the base fee of the very next block.
            let least = base.unwrap_or(0).saturating_add(base.unwrap_or(0) / 4);
            let price = prices.gas_price?.max(least);
            (price <= cap).then_some(Self::Legacy { price })
        };
        match style {
            Style::Legacy => legacy(),
            Style::Dynamic => dynamic(),
            Style::Auto if base.is_some() && prices.tip.is_some() => dynamic(),
            Style::Auto => legacy(),
        }
    }

    /// Most that a unit of gas costs.
    #[must_use]
    pub fn most(self) -> u128 {
        match self {
            Self::Legacy { price } => price,
            Self::Dynamic { max, .. } => max,
        }
    }

    fn tip(self) -> u128 {
        match self {
            Self::Legacy { price } => price,
            Self::Dynamic { tip, .. } => tip,
        }
    }

    /// These fees, raised to what replaces a transaction that offers `old`; nothing when that is over the cap.
    #[must_use]
    pub fn replacing(self, old: Self, cap: u128) -> Option<Self> {
        let (most, tip) = (raised(old.most()).max(self.most()), raised(old.tip()).max(self.tip()));
        let fees = match self {
            Self::Legacy { .. } => Self::Legacy { price: most },
            Self::Dynamic { .. } => Self::Dynamic { max: most, tip: tip.min(most) },
        };
        (most <= cap).then_some(fees)
    }
}

/// An eighth more, rounded up, and at least one more.
fn raised(price: u128) -> u128 {
    price.saturating_add(price.div_ceil(BUMP).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAP: u128 = 1_000;

    fn prices(base_fee: Option<u128>, tip: Option<u128>, gas_price: Option<u128>) -> Prices {
        Prices { base_fee, tip, gas_price }
    }

    #[test]
    fn the_style_follows_the_chain() {
        let auto = |prices| Fees::at(&prices, Style::Auto, CAP);
        assert_eq!(auto(prices(None, None, Some(7))), Some(Fees::Legacy { price: 7 }));
        assert_eq!(auto(prices(Some(10), Some(3), Some(7))), Some(Fees::Dynamic { max: 23, tip: 3 }));
        // Blocks with a base fee and a node that does not know tips.
        assert_eq!(auto(prices(Some(10), None, Some(20))), Some(Fees::Legacy { price: 20 }));
        assert_eq!(auto(prices(Some(100), None, Some(7))), Some(Fees::Legacy { price: 125 }));
        // Tips without a base fee are odd; the price counts.
        assert_eq!(auto(prices(None, Some(3), Some(7))), Some(Fees::Legacy { price: 7 }));
        assert_eq!(auto(prices(None, None, None)), None);
        let set = |style| Fees::at(&prices(Some(10), Some(3), Some(15)), style, CAP);
        assert_eq!(set(Style::Legacy), Some(Fees::Legacy { price: 15 }));
        assert_eq!(set(Style::Dynamic), Some(Fees::Dynamic { max: 23, tip: 3 }));
        assert_eq!(Fees::at(&prices(None, None, Some(1)), Style::Dynamic, CAP), None);
    }

    #[test]
    fn nothing_is_offered_over_the_cap() {
        let legacy = |price| Fees::at(&prices(None, None, Some(price)), Style::Auto, CAP);
        assert!(legacy(CAP - 1).is_some() && legacy(CAP).is_some() && legacy(CAP + 1).is_none());
        let dynamic = |base| Fees::at(&prices(Some(base), Some(2_000), None), Style::Auto, CAP);
        assert_eq!(dynamic(CAP - 1), Some(Fees::Dynamic { max: CAP, tip: CAP }));
        assert!(dynamic(CAP).is_some() && dynamic(CAP + 1).is_none());
        assert_eq!(dynamic(u128::MAX), None);
    }

    #[test]
    fn a_replacement_pays_an_eighth_more_until_the_cap() {
        let old = Fees::Legacy { price: 800 };
        assert_eq!(Fees::Legacy { price: 1 }.replacing(old, CAP), Some(Fees::Legacy { price: 900 }));
        assert_eq!(Fees::Legacy { price: 950 }.replacing(old, CAP), Some(Fees::Legacy { price: 950 }));
        assert_eq!(Fees::Legacy { price: 1 }.replacing(old, 899), None);
        let old = Fees::Dynamic { max: 80, tip: 0 };
        let now = Fees::Dynamic { max: 10, tip: 0 };
        assert_eq!(now.replacing(old, CAP), Some(Fees::Dynamic { max: 90, tip: 1 }));
    }

    proptest! {
        #[test]
        fn a_replacement_is_enough_for_every_node(
            most in 0u128..u128::MAX / 4, tip in any::<u128>(), now in any::<u128>(), legacy: bool, was: bool,
        ) {
            let make = |legacy, most, tip: u128| {
                if legacy { Fees::Legacy { price: most } } else { Fees::Dynamic { max: most, tip: tip.min(most) } }
            };
            let (old, new) = (make(was, most, tip), make(legacy, now, 0));
            if let Some(fees) = new.replacing(old, u128::MAX) {
                prop_assert!(fees.most() >= old.most() + old.most() / 8);
                prop_assert!(fees.tip() >= old.tip() + old.tip() / 8);
                prop_assert!(fees.most() > old.most() && fees.tip() > old.tip());
                prop_assert!(fees.tip() <= fees.most());
            }
        }
    }
}

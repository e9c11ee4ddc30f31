//! Adversaries that withhold rows of a blob, and light clients that sample it.
//!
//! The clients draw as they do in the network; what the adversary answers is decided here, in this process. A client that
//! does not get all rows that it drew has noticed.

pub mod exact;
pub mod figure;

use anyhow::Result;
use meridian_client::fetch::Draw;
use meridian_proofs::shape::{RowIndex, Shape};

use crate::random::Random;

/// What an adversary answers. It holds all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// So many rows, picked at random beforehand.
    Random(usize),
    /// The first K-1 rows: one short of what a payload takes.
    OneShort,
    /// Everything, to one client in so many; to the others nothing.
    Favours(usize),
    /// The first K-1 distinct rows that anybody asks for, whenever they are asked for, and no other.
    FirstAsked,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Clients that sampled.
    pub clients: usize,
    /// Clients that got all rows that they drew.
    pub fooled: usize,
    /// Distinct rows that were given to anybody.
    pub given: usize,
}

impl Outcome {
    /// Clients that lack a row.
    #[must_use]
    pub fn noticed(&self) -> usize {
        self.clients - self.fooled
    }
}

/// An adversary at work on one blob.
struct Withholder {
    adversary: Adversary,
    /// Rows that it answers.
    open: Vec<bool>,
    /// Rows that it may open yet.
    left: usize,
    given: Vec<bool>,
}

impl Withholder {
    fn new(shape: Shape, adversary: Adversary, random: &mut Random) -> Self {
        let total = shape.total_rows();
        let answers = match adversary {
            Adversary::Random(answers) => answers.min(total),
            Adversary::OneShort => shape.data_rows() - 1,
            Adversary::Favours(_) | Adversary::FirstAsked => 0,
        };
        let mut open: Vec<bool> = (0..total).map(|row| row < answers).collect();
        if let Adversary::Random(_) = adversary {
            random.shuffle(&mut open);
        }
        Self { adversary, open, left: shape.data_rows() - 1, given: vec![false; total] }
    }

    /// Whether a client gets a row.
    fn answers(&mut self, client: usize, row: RowIndex) -> bool {
        let Ok(row) = usize::try_from(row.0) else { return false };
        let is_given = match self.adversary {
            Adversary::Random(_) | Adversary::OneShort => self.open[row],
            Adversary::Favours(one_in) => client.is_multiple_of(one_in),
            Adversary::FirstAsked => {
                if !self.open[row] && self.left > 0 {
                    self.left -= 1;
                    self.open[row] = true;
                }
                self.open[row]
            }
        };
        self.given[row] |= is_given;
        is_given
    }
}

/// Lets clients sample a blob, one after the other, so many rows each.
///
/// # Errors
/// When the operating system has no randomness for a client's draw.
pub fn simulate(
    shape: Shape,
    samples: usize,
    clients: usize,
    adversary: Adversary,
    random: &mut Random,
) -> Result<Outcome> {
    let mut withholder = Withholder::new(shape, adversary, random);
    let mut fooled = 0;
    for client in 0..clients {
        let draw = Draw::new(shape, samples)?;
        // All are asked for, also after one that did not come.
        let missing = draw.rows().iter().filter(|row| !withholder.answers(client, **row)).count();
        fooled += usize::from(missing == 0);
    }
    let given = withholder.given.iter().filter(|given| **given).count();
    Ok(Outcome { clients, fooled, given })
}

#[cfg(test)]
mod tests {
    use meridian_proofs::sampling::{bound_unavailable, fooled_clients};
    use meridian_proofs::shape::PayloadLength;

    use super::exact::{Choices, binomial, first_asked, interval};
    use super::*;

    const CLIENTS: usize = 1_000;
    const SAMPLES: [usize; 4] = [4, 8, 16, 32];
    /// How rarely one comparison may fail in each direction without a fault: all of them together less than once in 1e9 runs.
    const TAIL: f64 = 1e-12;

    fn shape(bytes: u64) -> Shape {
        Shape::of(PayloadLength::try_from(bytes).unwrap())
    }

    fn run(shape: Shape, samples: usize, adversary: Adversary) -> Outcome {
        simulate(shape, samples, CLIENTS, adversary, &mut Random::new(7)).unwrap()
    }

    #[test]
    fn as_many_clients_notice_as_should() {
        for shape in [shape(130_000), shape(1 << 20)] {
            let (total, short) = (shape.total_rows(), shape.data_rows() - 1);
            for samples in SAMPLES {
                for (adversary, answers) in [
                    (Adversary::OneShort, short),
                    (Adversary::Random(short), short),
                    (Adversary::Random(total / 2), total / 2),
                    (Adversary::Random(total * 9 / 10), total * 9 / 10),
                ] {
                    let chance = Choices::new(total).all_answered(total, answers, samples);
                    if answers == short {
                        let bound = bound_unavailable(shape, samples, samples);
                        assert!((chance - bound).abs() <= 1e-9 * bound, "{chance} {bound}");
                    }
                    let outcome = run(shape, samples, adversary);
                    let fine = interval(&binomial(CLIENTS, chance), TAIL);
                    assert!(fine.contains(&outcome.fooled), "{adversary:?} {samples}: {outcome:?}, {fine:?}");
                    assert!(outcome.given <= answers);
                }
            }
        }
    }

    #[test]
    fn who_answers_what_is_asked_first_fools_at_least_a_quotient() {
        for shape in [shape(130_000), shape(1 << 20)] {
            for samples in SAMPLES {
                let outcome = run(shape, samples, Adversary::FirstAsked);
                let fine = interval(&first_asked(shape, samples, CLIENTS), TAIL);
                assert!(fine.contains(&outcome.fooled), "{samples}: {outcome:?}, {fine:?}");
                assert!(outcome.fooled >= fooled_clients(shape, samples), "{samples}: {outcome:?}");
                assert_eq!(outcome.given, shape.data_rows() - 1);
            }
        }
    }

    #[test]
    fn who_favours_some_fools_just_those_until_it_has_given_too_much() {
        let shape = shape(1 << 20);
        for (samples, is_enough) in [(4, false), (16, true)] {
            let outcome = run(shape, samples, Adversary::Favours(10));
            assert_eq!((outcome.fooled, outcome.noticed()), (100, 900));
            assert_eq!(outcome.given >= shape.data_rows(), is_enough, "{outcome:?}");
        }
    }
}

//! What should come of it, computed.

use std::ops::RangeInclusive;

use meridian_proofs::shape::Shape;

/// Ways to choose, by their logarithms.
pub struct Choices {
    /// ln n!
    factorials: Vec<f64>,
}

impl Choices {
    /// For choices out of so many things at most.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let mut factorials = vec![0.0];
        for n in 1..=most {
            factorials.push(factorials[n - 1] + real(n).ln());
        }
        Self { factorials }
    }

    fn ln(&self, n: usize, k: usize) -> f64 {
        self.factorials[n] - self.factorials[k] - self.factorials[n - k]
    }

    /// The probability that exactly `hits` of `draws` out of `total` rows are among the `marked`.
    fn hits(&self, total: usize, marked: usize, draws: usize, hits: usize) -> f64 {
        if hits > marked || hits > draws || draws - hits > total - marked {
            return 0.0;
        }
        let ways = self.ln(marked, hits) + self.ln(total - marked, draws - hits);
        (ways - self.ln(total, draws)).exp()
    }

    /// The probability that all of so many samples are among the rows that are answered.
    #[must_use]
    pub fn all_answered(&self, total: usize, answers: usize, samples: usize) -> f64 {
        self.hits(total, answers, samples, samples)
    }
}

/// The probabilities of 0, 1, ... `count` successes in as many trials.
#[must_use]
pub fn binomial(count: usize, chance: f64) -> Vec<f64> {
    let choices = Choices::new(count);
    // Its own powers, because 0 to the 0 is 1.
    let power = |base: f64, times: usize| if times == 0 { 0.0 } else { real(times) * base.ln() };
    let at = |hits| (choices.ln(count, hits) + power(chance, hits) + power(1.0 - chance, count - hits)).exp();
    (0..=count).map(at).collect()
}

/// The probabilities that an adversary who answers the first K-1 distinct rows that are asked for fools 0, 1, ... `clients`.
///
/// Until a client is refused a row, all are fooled. From then on it answers K-1 rows and no other.
#[must_use]
pub fn first_asked(shape: Shape, samples: usize, clients: usize) -> Vec<f64> {
    let (total, most) = (shape.total_rows(), shape.data_rows() - 1);
    let choices = Choices::new(total.max(clients));
    let later = choices.all_answered(total, most, samples);
    let mut fooled = vec![0.0; clients + 1];
    // The probability that everybody was fooled and so many rows are answered.
    let mut open = vec![0.0; most + 1];
    open[0] = 1.0;
    for client in 0..clients {
        let mut next = vec![0.0; most + 1];
        let mut refused = 0.0;
        for (rows, chance) in open.iter().enumerate().filter(|(_, chance)| **chance > 0.0) {
            for known in 0..=samples {
                let chance = chance * choices.hits(total, rows, samples, known);
                match next.get_mut(rows + samples - known) {
                    Some(next) => *next += chance,
                    None => refused += chance,
                }
            }
        }
        if refused > 0.0 {
            // Those before this one, and some of those after it.
            for (lucky, chance) in binomial(clients - client - 1, later).into_iter().enumerate() {
                fooled[client + lucky] += refused * chance;
            }
        }
        open = next;
    }
    fooled[clients] += open.iter().sum::<f64>();
    fooled
}

/// How many are expected.
#[must_use]
pub fn mean(distribution: &[f64]) -> f64 {
    distribution.iter().enumerate().map(|(number, chance)| real(number) * chance).sum()
}

/// The shortest range outside of which there are numbers of at most this probability in each direction.
#[must_use]
pub fn interval(distribution: &[f64], tail: f64) -> RangeInclusive<usize> {
    let outside = |numbers: &mut dyn Iterator<Item = usize>| {
        let mut sum = 0.0;
        numbers
            .take_while(|number| {
                sum += distribution[*number];
                sum <= tail
            })
            .count()
    };
    let last = distribution.len().saturating_sub(1);
    let (below, above) = (outside(&mut (0..=last)), outside(&mut (0..=last).rev()));
    below..=last.saturating_sub(above)
}

/// Exact: no number here comes near 2^53.
#[must_use]
pub fn real(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_draw_is_counted() {
        // Two samples each out of eight rows, three rows in all: every way in which three clients can draw.
        let shape = Shape::custom(4, 4, 64).unwrap();
        let draws: Vec<u32> = (0_u32..256).filter(|set| set.count_ones() == 2).collect();
        let mut counts = [0.0; 4];
        for first in &draws {
            for second in &draws {
                for third in &draws {
                    let (mut open, mut fooled) = (0_u32, 0);
                    for set in [*first, *second, *third] {
                        for row in (0..8).map(|row| 1 << row).filter(|row| set & row != 0) {
                            if open.count_ones() < 3 {
                                open |= row;
                            }
                        }
                        fooled += usize::from(set & !open == 0);
                    }
                    counts[fooled] += 1.0;
                }
            }
        }
        let ways = real(draws.len().pow(3));
        for (count, chance) in counts.into_iter().zip(first_asked(shape, 2, 3)) {
            assert!((count / ways - chance).abs() < 1e-12, "{} {chance}", count / ways);
        }
    }

    #[test]
    fn probabilities_add_up() {
        let shape = Shape::custom(256, 768, 64).unwrap();
        for distribution in
            [binomial(1_000, 0.3), binomial(5, 0.0), binomial(5, 1.0), first_asked(shape, 4, 200)]
        {
            let sum: f64 = distribution.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
        assert!((mean(&binomial(1_000, 0.3)) - 300.0).abs() < 1e-6);
    }

    #[test]
    fn an_interval_leaves_only_the_tails_out() {
        assert_eq!(interval(&[0.1, 0.2, 0.4, 0.2, 0.1], 0.15), 1..=3);
        assert_eq!(interval(&[0.1, 0.2, 0.4, 0.2, 0.1], 0.05), 0..=4);
        assert_eq!(interval(&binomial(1_000, 0.0), 1e-12), 0..=0);
        let fair = interval(&binomial(1_000, 0.5), 1e-12);
        assert!(*fair.start() > 380 && *fair.end() < 620, "{fair:?}");
    }
}

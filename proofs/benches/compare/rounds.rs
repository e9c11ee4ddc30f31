//! Contenders measured in turn: A, B, C, C, B, A, A, B, C ... so that a machine that slows down slows down all of them.
//!
//! What runs on one thread is measured by the processor time of that thread, so that other programs do not count.

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

/// Rounds below which nothing is told.
const FEWEST: usize = 3;

/// Rounds after which more tell nothing new.
const MOST: usize = 25;

/// Shortest stretch that is timed.
const STRETCH: Duration = Duration::from_millis(4);

/// How long something took.
#[derive(Clone, Copy)]
struct Lap {
    /// Of the thread that did it, where it was one.
    processor: Duration,
    elapsed: Duration,
}

/// Something that does its work so many times and tells how long that took.
type Work<'a> = Box<dyn FnMut(u32) -> Lap + 'a>;

/// Things that do the same work on the same bytes.
pub(crate) struct Field<'a> {
    pool: &'a ThreadPool,
    contenders: Vec<(&'static str, Work<'a>)>,
}

/// What was measured of one contender.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    /// Who.
    pub(crate) name: String,
    /// Seconds for one work, a value for each round: of processor time, where one thread does it.
    pub(crate) seconds: Vec<f64>,
    /// The same by the clock.
    pub(crate) elapsed: Vec<f64>,
}

/// What was measured of a field.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured(pub(crate) Vec<Times>);

/// A ratio and where the middle half of the rounds had it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    /// Of the medians.
    pub(crate) median: f64,
    /// A quarter of the rounds had less.
    pub(crate) low: f64,
    /// A quarter of the rounds had more.
    pub(crate) high: f64,
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of this system").into()
}

/// Times a work, with what giving up its result costs.
fn timed<R>(work: &mut impl FnMut() -> R, times: u32) -> Lap {
    let (begin, before) = (Instant::now(), processor_time());
    for _ in 0..times {
        drop(black_box(work()));
    }
    Lap { processor: processor_time() - before, elapsed: begin.elapsed() }
}

impl<'a> Field<'a> {
    /// An empty field whose works run in a pool of one thread, unless they are told to run elsewhere.
    pub(crate) fn new(pool: &'a ThreadPool) -> Self {
        Self { pool, contenders: Vec::new() }
    }

    /// Adds a contender that runs on one thread.
    pub(crate) fn add<R>(&mut self, name: &'static str, mut work: impl FnMut() -> R + Send + 'a) {
        let pool = self.pool;
        // All repetitions in one visit to the pool: going there costs as much as a small encoding.
        let work = move |times| pool.install(|| timed(&mut work, times));
        self.contenders.push((name, Box::new(work)));
    }

    /// Adds a contender that runs on all threads of another pool.
    pub(crate) fn add_in<R>(
        &mut self,
        pool: &'a ThreadPool,
        name: &'static str,
        mut work: impl FnMut() -> R + Send + 'a,
    ) {
        let work = move |times| {
            let elapsed = pool.install(|| timed(&mut work, times)).elapsed;
            Lap { processor: elapsed, elapsed }
        };
        self.contenders.push((name, Box::new(work)));
    }

    /// Adds two copies of a work that run at the same time, each in a pool of its own; together they count as one
    /// contender that does as many works a second as both.
    pub(crate) fn add_pair<R, W: FnMut() -> R + Send + 'a>(
        &mut self,
        pools: &'a [ThreadPool; 2],
        name: &'static str,
        mut pair: [W; 2],
    ) {
        let work = move |times| {
            let start = Barrier::new(2);
            let [left, right] = &mut pair;
            let copy = |pool: &ThreadPool, work: &mut W| {
                pool.install(|| {
                    start.wait();
                    timed(work, times).elapsed.as_secs_f64()
                })
            };
            let (left, right) = thread::scope(|scope| {
                let other = scope.spawn(|| copy(&pools[1], right));
                (copy(&pools[0], left), other.join().expect("a copy of the work"))
            });
            let elapsed = Duration::from_secs_f64(1.0 / (1.0 / left + 1.0 / right));
            Lap { processor: elapsed, elapsed }
        };
        self.contenders.push((name, Box::new(work)));
    }

    /// Measures all in turn for about so long, or for as long as the fewest rounds take.
    pub(crate) fn measure(mut self, budget: Duration) -> Measured {
        let stretch =
            (budget / u32::try_from(12 * self.contenders.len().max(1)).unwrap_or(u32::MAX)).max(STRETCH);
        // A first run warms up, a second one tells how many repetitions make a stretch.
        let repetitions: Vec<u32> = self
            .contenders
            .iter_mut()
            .map(|(_, work)| {
                let mut once = work(1).processor;
                if once < stretch {
                    once = work(1).processor;
                }
                let fit = stretch.as_nanos() / once.as_nanos().max(1);
                u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, 1 << 16)
            })
            .collect();
        let named = |(name, _): &(&str, _)| Times { name: (*name).to_owned(), ..Times::default() };
        let mut measured: Vec<Times> = self.contenders.iter().map(named).collect();
        let begin = Instant::now();
        for round in 0..MOST {
            if round >= FEWEST && begin.elapsed() >= budget {
                break;
            }
            let mut order: Vec<usize> = (0..self.contenders.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for i in order {
                let times = repetitions[i];
                let lap = (self.contenders[i].1)(times);
                measured[i].seconds.push(lap.processor.as_secs_f64() / f64::from(times));
                measured[i].elapsed.push(lap.elapsed.as_secs_f64() / f64::from(times));
            }
        }
        Measured(measured)
    }
}

/// The least, the middle and the greatest value of the middle half; of few values, of all.
fn middle(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let median = f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]);
    Some([sorted[last / 4], median, sorted[last - last / 4]])
}

impl Measured {
    fn times(&self, name: &str) -> Option<&[f64]> {
        self.0.iter().find(|times| times.name == name).map(|times| times.seconds.as_slice())
    }

    /// The same with all times by the clock.
    pub(crate) fn by_clock(&self) -> Self {
        let by_clock = |times: &Times| Times { seconds: times.elapsed.clone(), ..times.clone() };
        Self(self.0.iter().map(by_clock).collect())
    }

    /// Median seconds of one work.
    pub(crate) fn seconds(&self, name: &str) -> Option<f64> {
        Some(middle(self.times(name)?)?[1])
    }

    /// The fastest of some, by median.
    pub(crate) fn fastest<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        let known = names.iter().filter_map(|name| Some((self.seconds(name)?, *name)));
        known.min_by(|left, right| left.0.total_cmp(&right.0)).map(|(_, name)| name)
    }

    /// How many times as fast as another one is.
    pub(crate) fn ratio(&self, name: &str, other: &str) -> Option<Ratio> {
        let pairs = self.times(name)?.iter().zip(self.times(other)?);
        let ratios: Vec<f64> = pairs.map(|(seconds, other)| other / seconds).collect();
        let [low, _, high] = middle(&ratios)?;
        Some(Ratio { median: self.seconds(other)? / self.seconds(name)?, low, high })
    }
}

//! What the codec is meant to reach, and whether it does.

use crate::{
    LOWER,
    measure::{INTERVAL, OURS, PEER, SHA256, Size, TWO_COPIES, TWO_OURS, WINDOW, WINDOW_PEER},
    report::Run,
};

/// Something to reach, and every case of it that was measured.
pub(crate) struct Aim {
    pub(crate) text: &'static str,
    cases: Vec<Case>,
}

/// One measured case.
pub(crate) struct Case {
    /// Payload and level.
    pub(crate) place: String,
    /// What was measured.
    pub(crate) text: String,
    /// What was measured as a share of the aim: met from 1 on.
    reached: f64,
}

impl Aim {
    /// The case that is furthest from the aim.
    pub(crate) fn worst(&self) -> Option<&Case> {
        self.cases.iter().min_by(|left, right| left.reached.total_cmp(&right.reached))
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.worst() {
            None => "not measured",
            Some(worst) if worst.reached >= 1.0 => "met",
            Some(_) => "missed",
        }
    }

    /// The cases that miss it.
    pub(crate) fn missed(&self) -> String {
        let missed = self.cases.iter().filter(|case| case.reached < 1.0);
        missed.map(|case| format!("{}: {}", case.place, case.text)).collect::<Vec<_>>().join("; ")
    }
}

/// A value that is to be at least so large.
fn at_least(aim: f64, unit: &str, value: f64) -> (String, f64) {
    (format!("{value:.2}{unit}"), value / aim)
}

/// A value that is to be at most so large.
fn at_most(aim: f64, unit: &str, value: f64) -> (String, f64) {
    (format!("{value:.2}{unit}"), aim / value)
}

fn ratio(measured: &crate::rounds::Measured, name: &str, other: &str) -> Option<f64> {
    Some(measured.ratio(name, other)?.median)
}

/// All aims. What holds on a machine with AVX2 only is judged at that level.
pub(crate) fn all(runs: &[Run]) -> Vec<Aim> {
    type Judge = fn(&Size) -> Option<(String, f64)>;
    let aim = |text, runs: &[Run], judge: Judge| {
        let case = |run: &Run, size: &Size| {
            let (text, reached) = judge(size)?;
            Some(Case { place: format!("{} {}", size.name, run.level), text, reached })
        };
        let cases = runs.iter().flat_map(|run| run.sizes.iter().filter_map(move |size| case(run, size)));
        Aim { text, cases: cases.collect() }
    };
    let best = runs.first().map(std::slice::from_ref).unwrap_or_default();
    let avx2 = runs.iter().find(|run| run.level == LOWER.1).map(std::slice::from_ref).unwrap_or_default();
    vec![
        aim("encode below 1 MiB, 3.5 times rsema1d with AVX2 only", avx2, |size| {
            (size.payload < 1 << 20).then_some(())?;
            Some(at_least(3.5, " times", ratio(&size.encode, OURS, size.peer())?))
        }),
        aim("encode from 1 MiB, 2.5 times rsema1d with AVX2 only", avx2, |size| {
            (size.payload >= 1 << 20).then_some(())?;
            Some(at_least(2.5, " times", ratio(&size.encode, OURS, size.peer())?))
        }),
        aim("encode, 5 times rsema1d (where we want to be)", best, |size| {
            Some(at_least(5.0, " times", ratio(&size.encode, OURS, size.peer())?))
        }),
        aim("encode with SHA-256, 1.5 times rsema1d", runs, |size| {
            Some(at_least(1.5, " times", ratio(&size.encode, SHA256, size.peer())?))
        }),
        aim("two threads, 1.8 times one or 95% of two copies", best, |size| {
            let encode = size.encode.by_clock();
            let over_one = ratio(&encode, TWO_OURS, OURS)?;
            let of_copies = ratio(&encode, TWO_OURS, TWO_COPIES)?;
            let text = format!("{over_one:.2} times, {:.0}% of two copies", of_copies * 100.0);
            Some((text, (over_one / 1.8).max(of_copies / 0.95)))
        }),
        aim("check of a row of 8 KiB, 10 us", runs, |size| {
            (size.row_bytes == 8192).then_some(())?;
            Some(at_most(10.0, " us", size.check.seconds(OURS)? * 1e6))
        }),
        aim("check of a row of 8 KiB, 4.5 times rsema1d", runs, |size| {
            (size.row_bytes == 8192).then_some(())?;
            Some(at_least(4.5, " times", ratio(&size.check, OURS, PEER)?))
        }),
        aim("check of an interval of K rows, 1 GB/s", runs, |size| {
            let bytes = (size.data_rows * size.row_bytes) as f64;
            Some(at_least(1.0, " GB/s", bytes / size.check.seconds(INTERVAL)? / 1e9))
        }),
        aim("data rows from parity, twice rsema1d", runs, |size| {
            let parity = ratio(&size.rebuild, OURS, PEER)?;
            Some(at_least(2.0, " times", parity.min(ratio(&size.rebuild, WINDOW, WINDOW_PEER)?)))
        }),
        aim("heap while encoding, T rows and 10%", best, |size| {
            let most = size.heap.ours.max(size.heap.two_threads).max(size.heap.sha256);
            Some(at_most(1.1, " times T rows", most as f64 / size.heap.rows as f64))
        }),
    ]
}

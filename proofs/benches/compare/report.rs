//! Tables of what was measured, for a terminal and for a page.

use serde::{Deserialize, Serialize};

use crate::{
    aims,
    machine::Machine,
    measure::{
        CELLS, COMMITMENT, ERASURE_8, ERASURE_16, FLOOR, INTERVAL, INTERVAL_PEER, KERNELS, OURS, PEER,
        PEER_FRESH, SHA256, SIMD, Size, TWO_COPIES, TWO_OURS, TWO_PEER, TWO_SHA256, WINDOW, WINDOW_PEER,
    },
    peers::Kzg,
    rounds::{Measured, Ratio},
};

const BEGIN: &str = "<!-- codec: begin -->\n";
const END: &str = "<!-- codec: end -->\n";

/// All that one call measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// At the best level of the processor, then at a lower one.
    pub(crate) runs: Vec<Run>,
}

/// What was measured at one level.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Instructions that the codec uses.
    pub(crate) level: String,
    pub(crate) sizes: Vec<Size>,
    /// Of one blob of KZG.
    pub(crate) kzg: Option<Measured>,
}

/// A table whose columns are as wide as they must be.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new<const N: usize>(head: [&str; N]) -> Self {
        Self(vec![head.map(str::to_owned).into()])
    }

    fn add<const N: usize>(&mut self, row: [String; N]) {
        self.0.push(row.into());
    }

    fn text(&self) -> String {
        let columns = self.0[0].len();
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cell = |(column, cell): (usize, &String)| match column {
                0 => format!("| {cell:<0$} ", widths[0]),
                _ => format!("| {cell:>0$} ", widths[column]),
            };
            row.iter().enumerate().map(cell).collect::<String>() + "|\n"
        };
        let rule = |(column, width): (usize, &usize)| match column {
            0 => format!("|{:-<1$}", "", width + 2),
            _ => format!("|{:-<1$}:", "", width + 1),
        };
        let rule = widths.iter().enumerate().map(rule).collect::<String>() + "|\n";
        line(&self.0[0]) + &rule + &self.0[1..].iter().map(line).collect::<String>()
    }
}

fn told<T>(value: Option<T>, tell: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), tell)
}

/// A ratio with the middle half of its rounds.
fn times(ratio: Option<Ratio>) -> String {
    told(ratio, |r| format!("{:.2} ({:.2}-{:.2})", r.median, r.low, r.high))
}

fn plain(ratio: Option<Ratio>) -> String {
    told(ratio, |r| format!("{:.2}", r.median))
}

/// Megabytes a second.
fn speed(measured: &Measured, name: &str, bytes: usize) -> String {
    told(measured.seconds(name), |seconds| {
        let speed = bytes as f64 / seconds / 1e6;
        if speed < 100.0 { format!("{speed:.1}") } else { format!("{speed:.0}") }
    })
}

/// Microseconds.
fn micros(measured: &Measured, name: &str) -> String {
    told(measured.seconds(name), |seconds| format!("{:.2}", seconds * 1e6))
}

impl Size {
    /// The faster way to use the peer.
    pub(crate) fn peer(&self) -> &'static str {
        self.encode.fastest(&[PEER, PEER_FRESH]).unwrap_or(PEER)
    }
}

impl Report {
    fn each(&self) -> impl Iterator<Item = (&str, &Size)> {
        self.runs.iter().flat_map(|run| run.sizes.iter().map(|size| (run.level.as_str(), size)))
    }

    fn heading(&self) -> String {
        let m = &self.machine;
        let levels: Vec<&str> = self.runs.iter().map(|run| run.level.as_str()).collect();
        let (threads, levels) = (m.threads, levels.join(", then "));
        format!("{}, {threads} threads, level {levels}, {}, commit {}.\n", m.processor, m.date, m.commit)
    }

    fn encode(&self) -> String {
        let mut table = Table::new([
            "payload",
            "level",
            "K x W",
            "ours",
            "ours, SHA-256",
            "rsema1d reused",
            "rsema1d fresh",
            "floor",
            "our floor",
            "ours / rsema1d",
            "SHA-256 / rsema1d",
            "ours / floor",
            "ours / our floor",
        ]);
        for (level, size) in self.each() {
            let (encode, peer) = (&size.encode, size.peer());
            let speed = |name| speed(encode, name, size.payload);
            table.add([
                size.name.clone(),
                level.to_owned(),
                format!("{} x {}", size.data_rows, size.row_bytes),
                speed(OURS),
                speed(SHA256),
                speed(PEER),
                speed(PEER_FRESH),
                speed(FLOOR),
                speed(KERNELS),
                times(encode.ratio(OURS, peer)),
                times(encode.ratio(SHA256, peer)),
                plain(encode.ratio(OURS, FLOOR)),
                plain(encode.ratio(OURS, KERNELS)),
            ]);
        }
        table.text()
    }

    fn two_threads(&self) -> String {
        let mut table = Table::new([
            "payload",
            "ours",
            "two threads",
            "two copies",
            "two threads / one",
            "two threads / two copies",
            "SHA-256, two / one",
            "rsema1d, two / one",
            "ours / rsema1d, two threads",
        ]);
        for size in self.runs.first().iter().flat_map(|run| &run.sizes) {
            let encode = size.encode.by_clock();
            let speed = |name| speed(&encode, name, size.payload);
            table.add([
                size.name.clone(),
                speed(OURS),
                speed(TWO_OURS),
                speed(TWO_COPIES),
                times(encode.ratio(TWO_OURS, OURS)),
                times(encode.ratio(TWO_OURS, TWO_COPIES)),
                plain(encode.ratio(TWO_SHA256, SHA256)),
                plain(encode.ratio(TWO_PEER, PEER)),
                plain(encode.ratio(TWO_OURS, TWO_PEER)),
            ]);
        }
        table.text()
    }

    fn check(&self) -> String {
        let mut table = Table::new([
            "payload",
            "level",
            "row, bytes",
            "one row, us",
            "rsema1d, us",
            "one row / rsema1d",
            "interval, MB/s",
            "rsema1d, MB/s",
            "interval / rsema1d",
        ]);
        for (level, size) in self.each() {
            let (check, interval) = (&size.check, size.data_rows * size.row_bytes);
            table.add([
                size.name.clone(),
                level.to_owned(),
                size.row_bytes.to_string(),
                micros(check, OURS),
                micros(check, PEER),
                times(check.ratio(OURS, PEER)),
                speed(check, INTERVAL, interval),
                speed(check, INTERVAL_PEER, interval),
                times(check.ratio(INTERVAL, INTERVAL_PEER)),
            ]);
        }
        table.text()
    }

    fn rebuild(&self) -> String {
        let mut table = Table::new([
            "payload",
            "level",
            "rows K to 2K",
            "rsema1d",
            "ours / rsema1d",
            "across two cosets",
            "rsema1d",
            "ours / rsema1d",
        ]);
        for (level, size) in self.each() {
            let speed = |name| speed(&size.rebuild, name, size.payload);
            table.add([
                size.name.clone(),
                level.to_owned(),
                speed(OURS),
                speed(PEER),
                times(size.rebuild.ratio(OURS, PEER)),
                speed(WINDOW),
                speed(WINDOW_PEER),
                times(size.rebuild.ratio(WINDOW, WINDOW_PEER)),
            ]);
        }
        table.text()
    }

    fn code(&self) -> String {
        let mut table = Table::new([
            "payload",
            "level",
            "ours",
            "reed-solomon-simd",
            "ours / reed-solomon-simd",
            "reed-solomon-erasure, 64 + 192 rows",
            "reed-solomon-erasure, our rows",
        ]);
        for (level, size) in self.each() {
            let speed = |name| speed(&size.code, name, size.payload);
            table.add([
                size.name.clone(),
                level.to_owned(),
                speed(OURS),
                speed(SIMD),
                times(size.code.ratio(OURS, SIMD)),
                speed(ERASURE_8),
                speed(ERASURE_16),
            ]);
        }
        table.text()
    }

    fn kzg(&self) -> Option<String> {
        let kzg = self.runs.first()?.kzg.as_ref()?;
        let mut table = Table::new(["one blob of 126976 payload bytes", "ms", "MB/s"]);
        for (name, text) in [(COMMITMENT, "commitment"), (CELLS, "128 cells with proofs, twice the length")] {
            let millis = told(kzg.seconds(name), |seconds| format!("{:.1}", seconds * 1e3));
            table.add([text.to_owned(), millis, speed(kzg, name, Kzg::PAYLOAD)]);
        }
        Some(table.text())
    }

    fn heap(&self) -> String {
        let mut table = Table::new([
            "payload",
            "T rows, bytes",
            "tree",
            "ours",
            "two threads",
            "SHA-256",
            "kept by a thread",
            "ours / T rows",
            "rsema1d in place / T rows",
        ]);
        for size in self.runs.first().iter().flat_map(|run| &run.sizes) {
            let heap = &size.heap;
            let share = |bytes: usize| format!("{:.3}", bytes as f64 / heap.rows as f64);
            table.add([
                size.name.clone(),
                heap.rows.to_string(),
                heap.tree.to_string(),
                heap.ours.to_string(),
                heap.two_threads.to_string(),
                heap.sha256.to_string(),
                heap.kept.to_string(),
                share(heap.ours),
                share(heap.peer),
            ]);
        }
        table.text()
    }

    fn aims(&self) -> String {
        let mut table = Table::new(["aim", "worst", "at", "verdict", "missed at"]);
        for aim in aims::all(&self.runs) {
            table.add([
                aim.text.to_owned(),
                told(aim.worst(), |case| case.text.clone()),
                told(aim.worst(), |case| case.place.clone()),
                aim.verdict().to_owned(),
                aim.missed(),
            ]);
        }
        table.text()
    }

    /// All tables.
    pub(crate) fn text(&self) -> String {
        let mut parts = vec![
            self.heading(),
            "### Aims\n".to_owned(),
            self.aims(),
            "### Encode and commit, one thread, MB of payload a second\n".to_owned(),
            self.encode(),
            "### Encode and commit, two threads, MB of payload a second\n".to_owned(),
            self.two_threads(),
            "### Checking rows, one thread\n".to_owned(),
            self.check(),
            "### Data rows from parity alone, one thread, MB of payload a second\n".to_owned(),
            self.rebuild(),
            "### Reed-Solomon alone, one thread, MB of payload a second\n".to_owned(),
            self.code(),
        ];
        if let Some(kzg) = self.kzg() {
            parts.extend(["### KZG, one thread\n".to_owned(), kzg]);
        }
        parts.extend(["### Heap while encoding into fresh memory, bytes\n".to_owned(), self.heap()]);
        parts.join("\n")
    }

    /// A page with the tables between its marks, if it has them.
    pub(crate) fn placed(&self, page: &str) -> Option<String> {
        let (before, rest) = page.split_once(BEGIN)?;
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}{}{END}{after}", self.text()))
    }
}

//! What the operating system says of this process, read when metrics are collected.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::{Meter, ObservableCounter, ObservableGauge};

use super::{Definition, Instrument};

/// Resident memory in bytes.
pub struct ResidentMemory {
    _gauge: ObservableGauge<u64>,
}

/// CPU time in seconds.
pub struct CpuTime {
    _counter: ObservableCounter<f64>,
}

/// Open file descriptors.
pub struct OpenFiles {
    _gauge: ObservableGauge<u64>,
}

/// The machine's clock in unix seconds.
pub struct WallClock {
    _gauge: ObservableGauge<f64>,
}

/// Asynchronous tasks of the runtime in which the instruments are made.
pub struct Tasks {
    _gauge: ObservableGauge<u64>,
}

impl Instrument for ResidentMemory {
    const KIND: &'static str = "gauge";
    fn build(meter: &Meter, d: &Definition) -> Self {
        let builder = meter.u64_observable_gauge(d.name).with_unit(d.unit).with_description(d.help);
        let read = |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            if let Some(bytes) = resident_bytes() {
                observer.observe(bytes, &[]);
            }
        };
        ResidentMemory { _gauge: builder.with_callback(read).build() }
    }
}

impl Instrument for CpuTime {
    const KIND: &'static str = "counter";
    fn build(meter: &Meter, d: &Definition) -> Self {
        let builder = meter.f64_observable_counter(d.name).with_unit(d.unit).with_description(d.help);
        let read = |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
            if let Some(seconds) = cpu_seconds() {
                observer.observe(seconds, &[]);
            }
        };
        CpuTime { _counter: builder.with_callback(read).build() }
    }
}

impl Instrument for OpenFiles {
    const KIND: &'static str = "gauge";
    fn build(meter: &Meter, d: &Definition) -> Self {
        let builder = meter.u64_observable_gauge(d.name).with_unit(d.unit).with_description(d.help);
        let read = |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            if let Some(files) = open_files() {
                observer.observe(files, &[]);
            }
        };
        OpenFiles { _gauge: builder.with_callback(read).build() }
    }
}

impl Instrument for WallClock {
    const KIND: &'static str = "gauge";
    fn build(meter: &Meter, d: &Definition) -> Self {
        let builder = meter.f64_observable_gauge(d.name).with_unit(d.unit).with_description(d.help);
        let read = |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            observer.observe(since.as_secs_f64(), &[]);
        };
        WallClock { _gauge: builder.with_callback(read).build() }
    }
}

impl Instrument for Tasks {
    const KIND: &'static str = "gauge";
    fn build(meter: &Meter, d: &Definition) -> Self {
        let builder = meter.u64_observable_gauge(d.name).with_unit(d.unit).with_description(d.help);
        let runtime = tokio::runtime::Handle::try_current().ok();
        let read = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            let alive = runtime.as_ref().map(|runtime| runtime.metrics().num_alive_tasks());
            if let Some(tasks) = alive.and_then(|tasks| u64::try_from(tasks).ok()) {
                observer.observe(tasks, &[]);
            }
        };
        Tasks { _gauge: builder.with_callback(read).build() }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn cpu_seconds() -> Option<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(std::time::Duration::from_micros(u64::try_from(micros).ok()?).as_secs_f64())
}

fn open_files() -> Option<u64> {
    u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_can_be_observed() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(open_files().unwrap() >= 3);
    }
}

//! The codec beside its published peers and a floor, in one run on the same bytes; `--record PAGE` writes the tables.
#![allow(clippy::expect_used, reason = "a bench may stop")]
#![allow(unsafe_code, reason = "a global allocator that counts")]

mod aims;
mod heap;
mod machine;
mod measure;
mod ours;
mod payload;
mod peers;
mod report;
mod rounds;

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use meridian_proofs::simd_level;

use crate::{
    machine::Machine,
    measure::Bench,
    report::{Report, Run},
};

const USAGE: &str = "\
Compares the codec with its peers, contenders in turn, and tells medians and ratios.

  --sizes LIST    payloads, separated by commas: 24KB, 130KB (real batches), or a number of MiB up to 128MiB
                  [24KB,130KB,1MiB,8MiB,32MiB,128MiB]
  --seconds S     time for each of the four fields of a payload, at least three rounds [2]
  --one-level     only at the level in use, not at AVX2 as well
  --json          JSON with every round instead of tables
  --record PAGE   puts the tables on a page, between its marks

MERIDIAN_SIMD=avx2 or scalar holds the codec to that level.";

/// The variable that holds the codec to a level, and the level that can be counted on.
const LOWER: (&str, &str) = ("MERIDIAN_SIMD", "avx2");

struct Arguments {
    sizes: Vec<String>,
    seconds: f64,
    one_level: bool,
    json: bool,
    record: Option<PathBuf>,
}

impl Arguments {
    fn parse(given: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let sizes = ["24KB", "130KB", "1MiB", "8MiB", "32MiB", "128MiB"].map(str::to_owned).into();
        let mut arguments = Self { sizes, seconds: 2.0, one_level: false, json: false, record: None };
        let mut measured = false;
        let mut given = given.into_iter();
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                // What cargo tells a benchmark that is to measure.
                "--bench" => measured = true,
                "--one-level" => arguments.one_level = true,
                "--json" => arguments.json = true,
                "--sizes" => arguments.sizes = value()?.split(',').map(str::to_owned).collect(),
                "--seconds" => arguments.seconds = value()?.parse().map_err(|_| "seconds are a number")?,
                "--record" => arguments.record = Some(value()?.into()),
                "--help" | "-h" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                other => return Err(format!("{other}: no such option\n{USAGE}")),
            }
        }
        if !measured {
            // Run as a test: whether it runs at all.
            arguments.sizes = vec!["24KB".to_owned()];
            (arguments.seconds, arguments.one_level) = (0.01, true);
        }
        Ok(arguments)
    }
}

/// Measures all payloads at the level in use.
fn run(sizes: &[(String, Vec<u8>)], seconds: f64, everything: bool) -> Run {
    let bench = Bench::new(Duration::from_secs_f64(seconds), everything);
    let measure = |(name, payload): &(String, Vec<u8>)| {
        eprintln!("measuring {name} at level {}", simd_level());
        bench.size(name, payload)
    };
    let kzg = sizes.first().filter(|_| everything).map(|(_, payload)| bench.kzg(payload));
    Run { level: simd_level().to_owned(), sizes: sizes.iter().map(measure).collect(), kzg }
}

/// Measures at the lower level, in a process of its own, since a level is chosen once.
fn run_lower(arguments: &Arguments) -> Result<Run, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(["--bench", "--one-level", "--json", "--sizes", &arguments.sizes.join(",")])
        .args(["--seconds", &arguments.seconds.to_string()])
        .env(LOWER.0, LOWER.1)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let report: Report = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    report.runs.into_iter().next().ok_or_else(|| "nothing was measured".to_owned())
}

fn compare() -> Result<(), String> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    let sized = |name: &String| {
        let payload = payload::named(name).ok_or_else(|| format!("{name}: no such payload\n{USAGE}"))?;
        Ok((name.clone(), payload))
    };
    let sizes = arguments.sizes.iter().map(sized).collect::<Result<Vec<_>, String>>()?;
    let machine = Machine::this();
    // Held to a level: only what depends on it.
    let everything = env::var_os(LOWER.0).is_none();
    let mut runs = vec![run(&sizes, arguments.seconds, everything)];
    if !arguments.one_level && everything && runs[0].level != LOWER.1 && runs[0].level != "scalar" {
        match run_lower(&arguments) {
            Ok(run) => runs.push(run),
            Err(error) => eprintln!("not measured at level {}: {error}", LOWER.1),
        }
    }
    let report = Report { machine, runs };
    if arguments.json {
        println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        println!("{}", report.text());
    }
    if let Some(page) = &arguments.record {
        let told = |error: std::io::Error| format!("{}: {error}", page.display());
        let old = fs::read_to_string(page).map_err(told)?;
        let new = report.placed(&old).ok_or_else(|| format!("{}: no marks", page.display()))?;
        fs::write(page, new).map_err(told)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! The `da` command.

mod altda;
pub mod args;
mod audit;
mod cert;
mod committee;
pub mod docs;
mod evidence;
pub mod exit;
mod get;
mod id;
mod input;
mod key;
mod light;
mod log;
mod namespace;
mod nodes;
mod open;
mod progress;
mod put;
pub mod report;
mod sample;
pub mod schema;
mod serving;
mod session;
mod stop;
mod telemetry;
mod text;
mod token;
mod trace;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing::Instrument;
use tracing_subscriber::filter::LevelFilter;

use args::{
    AltDaCommand, CertCommand, Cli, Command, EvidenceCommand, KeyCommand, LightCommand, LogCommand,
    NamespaceCommand, TokenCommand,
};
use exit::{Exit, Problem};
use report::{ErrorBody, ErrorReport};
use schema::Described;
use session::Session;
use telemetry::Telemetry;

/// What a command prints.
pub(crate) struct Printed {
    json: String,
    text: String,
    but: Option<Problem>,
}

impl Printed {
    /// An object for programs and a text for people.
    pub(crate) fn new<T: Described>(report: &T, text: String) -> Result<Self, Problem> {
        let json = serde_json::to_string(report).map_err(Problem::local)?;
        Ok(Self { json, text, but: None })
    }

    /// Nothing: what there was to print is printed.
    pub(crate) fn nothing() -> Self {
        Self { json: String::new(), text: String::new(), but: None }
    }

    /// The same, and a problem that decides how the program ends.
    pub(crate) fn but(self, problem: Problem) -> Self {
        Self { but: Some(problem), ..self }
    }
}

/// Runs the command line that the program was started with.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let json = cli.global.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(json, &Problem::local(error), None),
    };
    runtime.block_on(async {
        let telemetry = match Telemetry::install(cli.global.otlp.as_deref(), cli.command.level()) {
            Ok(telemetry) => telemetry,
            Err(problem) => return fail(json, &problem, None),
        };
        let session = match Session::new(cli.global) {
            Ok(session) => session,
            Err(problem) => return fail(json, &problem, None),
        };
        let name = cli.command.name();
        let span =
            tracing::info_span!("da", otel.name = format!("da {name}"), exit_code = tracing::field::Empty);
        let outcome = execute(cli.command, &session).instrument(span.clone()).await;
        let problem = outcome.as_ref().map_or_else(Some, |printed| printed.but.as_ref());
        span.record("exit_code", problem.map_or(Exit::Done, |problem| problem.exit).code());
        drop(span);
        session.keep_measurements();
        let code = match outcome {
            Ok(printed) => print(json, &printed),
            Err(problem) => fail(json, &problem, Some(&session)),
        };
        telemetry.shutdown();
        code
    })
}

async fn execute(command: Command, session: &Session) -> Result<Printed, Problem> {
    match command {
        Command::Put(args) => put::run(args, session).await,
        Command::Id(args) => id::run(&args).await,
        Command::Get(args) => get::run(args, session).await,
        Command::Open(args) => open::run(args, session).await,
        Command::Cert(CertCommand::Show(args)) => cert::show(&args, session),
        Command::Cert(CertCommand::Verify(args)) => cert::verify(&args, session).await,
        Command::Cert(CertCommand::Fetch(args)) => cert::fetch(args, session).await,
        Command::Sample(args) => sample::run(args, session).await,
        Command::Audit(args) => audit::run(args, session).await,
        Command::Trace(args) => trace::run(args, session).await,
        Command::Regions => nodes::regions(session).await,
        Command::Status => nodes::status(session).await,
        Command::Committee => committee::run(session).await,
        Command::Log(LogCommand::List(args)) => log::list(args, session).await,
        Command::Log(LogCommand::Entries(args)) => log::entries(args, session).await,
        Command::Log(LogCommand::Verify(args)) => log::verify(args, session).await,
        Command::Light(args) => match &args.command {
            Some(LightCommand::Status(status)) => light::status(status, session).await,
            None => light::run(args, session).await,
        },
        Command::Altda(AltDaCommand::Serve(args)) => altda::serve(args, session).await,
        Command::Evidence(EvidenceCommand::Verify(args)) => evidence::verify(&args, session),
        Command::Evidence(EvidenceCommand::Import(args)) => evidence::import(&args, session),
        Command::Key(KeyCommand::New(args)) => key::new(args).await,
        Command::Key(KeyCommand::Show(args)) => key::show(args).await,
        Command::Namespace(command) => namespace::run(command).await,
        Command::Token(TokenCommand::New(args)) => token::new(args),
        Command::Token(TokenCommand::List(args)) => token::list(&args),
        Command::Token(TokenCommand::Revoke(args)) => token::revoke(&args),
        Command::Completions(args) => docs::completions(args.shell),
        Command::Man(args) => docs::man(&args.folder),
    }
}

impl Command {
    /// What is logged without RUST_LOG: an error of a command is one line, and what runs on tells what it does.
    fn level(&self) -> LevelFilter {
        match self {
            Self::Altda(_) => LevelFilter::INFO,
            Self::Light(args) if args.command.is_none() && !args.once => LevelFilter::INFO,
            _ => LevelFilter::OFF,
        }
    }

    /// What is typed to get it.
    fn name(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Id(_) => "id",
            Self::Get(_) => "get",
            Self::Open(_) => "open",
            Self::Cert(CertCommand::Show(_)) => "cert show",
            Self::Cert(CertCommand::Verify(_)) => "cert verify",
            Self::Cert(CertCommand::Fetch(_)) => "cert fetch",
            Self::Sample(_) => "sample",
            Self::Audit(_) => "audit",
            Self::Trace(_) => "trace",
            Self::Regions => "regions",
            Self::Status => "status",
            Self::Committee => "committee",
            Self::Log(LogCommand::List(_)) => "log list",
            Self::Log(LogCommand::Entries(_)) => "log entries",
            Self::Log(LogCommand::Verify(_)) => "log verify",
            Self::Light(args) if args.command.is_some() => "light status",
            Self::Light(_) => "light",
            Self::Altda(AltDaCommand::Serve(_)) => "altda serve",
            Self::Evidence(EvidenceCommand::Verify(_)) => "evidence verify",
            Self::Evidence(EvidenceCommand::Import(_)) => "evidence import",
            Self::Key(KeyCommand::New(_)) => "key new",
            Self::Key(KeyCommand::Show(_)) => "key show",
            Self::Namespace(NamespaceCommand::Create(_)) => "namespace create",
            Self::Namespace(NamespaceCommand::Allow(_)) => "namespace allow",
            Self::Namespace(NamespaceCommand::Deny(_)) => "namespace deny",
            Self::Namespace(NamespaceCommand::List(_)) => "namespace list",
            Self::Token(TokenCommand::New(_)) => "token new",
            Self::Token(TokenCommand::List(_)) => "token list",
            Self::Token(TokenCommand::Revoke(_)) => "token revoke",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

/// Prints the result of a command.
fn print(json: bool, printed: &Printed) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let written = if json {
        writeln!(out, "{}", printed.json)
    } else if printed.text.is_empty() {
        Ok(())
    } else {
        writeln!(out, "{}", printed.text.trim_end())
    };
    match written.and_then(|()| out.flush()) {
        // A reader that has seen enough, such as head, is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(json, &Problem::local(error), None)
        }
        _ => match &printed.but {
            Some(problem) => fail(false, problem, None),
            None => ExitCode::from(Exit::Done.code()),
        },
    }
}

/// Says what went wrong: one line for people, and an object for programs with `--json`.
fn fail(json: bool, problem: &Problem, session: Option<&Session>) -> ExitCode {
    eprintln!("{}", problem.line());
    if json {
        print_error(&problem.report(session.and_then(Session::known_committee)));
    }
    ExitCode::from(problem.exit.code())
}

/// Prints an error object. Standard output may be gone, which leaves the exit code to tell.
fn print_error(report: &ErrorReport) {
    if let Ok(text) = serde_json::to_string(report) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// Ends after a wrong command line, or after help was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let asked_for = !error.use_stderr();
    let _ = error.print();
    if asked_for {
        return ExitCode::from(Exit::Done.code());
    }
    if std::env::args_os().any(|arg| arg == "--json") {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        print_error(&ErrorReport {
            error: ErrorBody {
                reason: "USAGE".to_owned(),
                message,
                next: "see da --help".to_owned(),
                exit_code: Exit::Usage.code(),
                faults: Vec::new(),
            },
        });
    }
    ExitCode::from(Exit::Usage.code())
}

//! `mqtt`: a broker, clients and a bench for MQTT 3.1.1 and 5.0.

mod bench;
mod broker;
mod connection;
mod documents;
mod failure;
mod format;
mod passwd;
mod properties;
mod publish;
mod subscribe;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use failure::Failure;

/// A broker, clients and a bench for MQTT 3.1.1 and 5.0
#[derive(Debug, Parser)]
#[command(name = "mqtt", version, propagate_version = false, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mqtt broker                                  serve on 127.0.0.1:1883
  mqtt sub -v -t 'sensors/#'                   show what is published
  mqtt pub -t sensors/1 -m 21.5 -q 1 -r        publish, retained
  mqtt bench --subscribers 100                 measure the broker on this machine
  mqtt completions bash > /etc/bash_completion.d/mqtt

`mqtt COMMAND --help` has more for each.";

#[derive(Debug, Subcommand)]
enum Command {
    Broker(broker::Arguments),
    Pub(publish::Arguments),
    Sub(subscribe::Arguments),
    Bench(bench::Arguments),
    Passwd(passwd::Arguments),
    Completions(documents::Completions),
    Man(documents::Man),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // If that cannot be written there is nobody to be told.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    let (result, quiet) = match arguments.command {
        Command::Broker(arguments) => (broker::run(arguments), false),
        Command::Pub(arguments) => {
            let quiet = arguments.is_quiet();
            (publish::run(arguments), quiet)
        }
        Command::Sub(arguments) => {
            let quiet = arguments.is_quiet();
            (subscribe::run(arguments), quiet)
        }
        Command::Bench(arguments) => (bench::run(arguments), false),
        Command::Passwd(arguments) => (passwd::run(&arguments), false),
        Command::Completions(arguments) => (documents::completions(&arguments), false),
        Command::Man(arguments) => (documents::man(&arguments), false),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !quiet {
                // If that cannot be written there is nobody to be told.
                let _ = writeln!(io::stderr(), "mqtt: {message}");
            }
            ExitCode::from(code)
        }
    }
}

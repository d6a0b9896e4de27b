//! Whether the programs understand what the manifests tell them.

use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use common::startup::LimitOptions;
use serde_json::Value;
use tests::binary::run_directory;
use tests::deploy::{self, OVERLAYS, Program, at, named, programs, text};

/// The ports that Knative's proxy has in each Pod of a Knative Service: its profiler, HTTP, HTTP/2, its own server, HTTPS,
/// and two of metrics.
const KNATIVE_PORTS: [u64; 7] = [8008, 8012, 8013, 8022, 8112, 9090, 9091];
/// The longest that a request may take by Knative's own defaults, in seconds.
const KNATIVE_TIMEOUT: u64 = 600;

#[derive(Parser)]
struct Limits {
    #[command(flatten)]
    limits: LimitOptions,
}

fn ours(test: &str, overlay: &str) -> Option<Vec<Program>> {
    let objects = deploy::rendered(test, overlay)?;
    let programs = programs(&objects, &run_directory().join(test).join(overlay));
    let mut objects: Vec<_> = programs.iter().map(|program| program.object.as_str()).collect();
    objects.sort_unstable();
    let all = [
        "Deployment controller",
        "Deployment mqtt-endpoint",
        "Service command-endpoint",
        "Service http-endpoint",
    ];
    assert_eq!(objects, all, "{overlay}");
    Some(programs)
}

fn run(program: &Program, more: &str) -> (Option<i32>, String) {
    let mut command = Command::new(program.path);
    command.args(&program.arguments).arg(more).env_clear().stdin(Stdio::null());
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn every_program_understands_its_configuration() {
    for overlay in OVERLAYS {
        let Some(programs) = ours("every_program_understands_its_configuration", overlay) else { return };
        for program in programs {
            let (code, said) = run(&program, "--check-config");
            assert_eq!(
                code,
                Some(0),
                "{} of {overlay} with {:?}: {said}",
                program.object,
                program.environment
            );
        }
    }
}

#[test]
fn every_program_knows_each_variable_that_it_is_given() {
    for overlay in OVERLAYS {
        let Some(programs) = ours("every_program_knows_each_variable_that_it_is_given", overlay) else {
            return;
        };
        for program in programs {
            let (code, help) = run(&program, "--help");
            assert_eq!(code, Some(0), "{}: {help}", program.object);
            let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
            let known: Vec<_> = help.split(|character| !is_part(character)).collect();
            let unknown = program.environment.iter().find(|(name, _)| !known.contains(&name.as_str()));
            assert_eq!(unknown, None, "{} of {overlay} does not know it", program.object);
        }
    }
}

#[test]
fn no_program_takes_a_port_of_knatives_proxy() {
    for overlay in OVERLAYS {
        let test = "no_program_takes_a_port_of_knatives_proxy";
        let Some(programs) = ours(test, overlay) else { return };
        for program in programs.iter().filter(|program| program.object.starts_with("Service")) {
            let ports: Vec<u64> = program
                .environment
                .iter()
                .filter(|(name, _)| name.ends_with("LISTEN"))
                .map(|(_, value)| value.rsplit(':').next().unwrap().parse().unwrap())
                .collect();
            assert!(ports.len() >= 2, "{} leaves a port to its default", program.object);
            assert!(!ports.iter().any(|port| KNATIVE_PORTS.contains(port)), "{}: {ports:?}", program.object);
        }
    }
}

#[test]
fn the_longest_wait_ends_before_knative_ends_it() {
    let LimitOptions { max_ttd, publish_timeout, login_timeout, .. } = Limits::parse_from(["test"]).limits;
    let longest = max_ttd + publish_timeout + login_timeout;
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered("the_longest_wait_ends_before_knative_ends_it", overlay) else {
            return;
        };
        let is_knative = |object: &&Value| at(object, "/apiVersion") == "serving.knative.dev/v1";
        for object in objects.iter().filter(is_knative) {
            let seconds = |field: &str| object["spec"]["template"]["spec"][field].as_u64().unwrap();
            let (start, end) = (seconds("responseStartTimeoutSeconds"), seconds("timeoutSeconds"));
            assert!(Duration::from_secs(start) > longest, "{}: {start} s, {longest:?}", named(object));
            assert!(start <= end && end <= KNATIVE_TIMEOUT, "{}: {start} s, {end} s", named(object));
        }
    }
}

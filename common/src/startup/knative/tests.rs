//! What of the options is good.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    knative: KnativeOptions,
}

const RESOURCES: &str = "telemetry=KafkaChannel/t,commands=KafkaChannel/c,outcomes=KafkaChannel/o";

fn options(arguments: &[&str]) -> KnativeOptions {
    Options::try_parse_from([&["test", "--pod-name", "p"], arguments].concat()).unwrap().knative
}

fn refusal(role: Role, kafka: bool, arguments: &[&str]) -> String {
    options(arguments).check(role, kafka).map(drop).unwrap_err().to_string()
}

#[test]
fn without_a_sink_the_order_of_a_sink_binding_is_explained() {
    for (role, own) in [(Role::Devices, "telemetry"), (Role::Applications, "commands")] {
        let refusal = refusal(role, false, &["--channel", RESOURCES]);
        for said in ["K_SINK is missing", "SinkBinding", own, "made before it"] {
            assert!(refusal.contains(said), "{said}: {refusal}");
        }
    }
    assert!(!options(&["--sink", ""]).is_chosen());
}

#[test]
fn what_is_enough_is_taken() {
    let sink = ["--sink", "http://t.ns.svc.cluster.local"];
    let resources = ["--channel", RESOURCES];
    for (role, kafka, arguments) in [
        (Role::Devices, false, [&sink[..], &resources].concat()),
        (Role::Applications, false, [&sink[..], &resources].concat()),
        (Role::Devices, true, [&sink[..], &resources].concat()),
        (
            Role::Devices,
            false,
            [&sink[..], &["--channel", "commands=InMemoryChannel/c", "--channel-url", "outcomes=http://o"]]
                .concat(),
        ),
        (Role::Devices, false, [&resources[..], &["--channel-url", "telemetry=http://t"]].concat()),
    ] {
        let checked = options(&arguments).check(role, kafka).map_err(|error| error.to_string()).unwrap();
        assert!(checked.targets.contains_key(&role.own()));
        assert_eq!(checked.pushed.is_none(), kafka);
    }
}

#[test]
fn what_is_missing_or_bad_is_named_with_its_option() {
    let with = |more: &[&'static str]| [&["--sink", "http://x"], more].concat();
    let in_memory = "telemetry=InMemoryChannel/t,commands=InMemoryChannel/c,outcomes=InMemoryChannel/o";
    for (role, kafka, arguments, said) in [
        (Role::Devices, false, with(&[]), "--channel commands=KIND/NAME"),
        (Role::Devices, false, with(&["--channel", "commands=Channel/c"]), "where outcomes takes events"),
        (
            Role::Applications,
            false,
            with(&["--channel", "commands=Channel/c"]),
            "--channel telemetry=KIND/NAME",
        ),
        (
            Role::Devices,
            true,
            with(&["--channel", "commands=KafkaChannel/c"]),
            "--channel telemetry=KIND/NAME",
        ),
        (Role::Devices, true, with(&["--channel", in_memory]), "no topic to read"),
        (Role::Devices, false, with(&["--channel", "commands=Channel/c,commands=Channel/d"]), "given twice"),
        (
            Role::Devices,
            false,
            with(&["--channel", RESOURCES, "--channel-url", "telemetry=http://t"]),
            "leave out one",
        ),
        (
            Role::Devices,
            false,
            with(&["--channel", RESOURCES, "--subscriber-listen", "off"]),
            "--subscriber-listen",
        ),
        (Role::Devices, false, vec!["--sink", "t", "--channel", RESOURCES], "http or https URL"),
        (Role::Devices, false, with(&["--channel", RESOURCES, "--ce-overrides", "x"]), "K_CE_OVERRIDES"),
        (
            Role::Devices,
            false,
            with(&["--channel", RESOURCES, "--ce-overrides", r#"{"extensions":{"partitionkey":"x"}}"#]),
            "cannot set 'partitionkey'",
        ),
    ] {
        let refusal = refusal(role, kafka, &arguments);
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    assert!(Options::try_parse_from(["test", "--channel", "commands=x"]).is_err());
    assert!(Options::try_parse_from(["test", "--channel-url", "commands=ftp://x"]).is_err());
}

#[test]
fn overrides_are_extension_attributes() {
    let sink = ["--sink", "http://x", "--channel", RESOURCES];
    let more = ["--ce-overrides", r#"{"extensions":{"cluster":"a"}}"#];
    let checked = options(&[&sink[..], &more].concat()).check(Role::Devices, false).ok().unwrap();
    assert_eq!(checked.overrides, BTreeMap::from([("cluster".to_owned(), "a".to_owned())]));
    assert!(options(&sink).check(Role::Devices, false).ok().unwrap().overrides.is_empty());
}

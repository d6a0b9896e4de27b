//! Bearers of the cluster's tokens: what they may do is what the cluster says, and nothing else.

use std::time::Duration;

use common::kubernetes::NAMESPACE_LABEL;
use common::registry::{ApplicationSpec, Scope};
use common::service::Clock;
use common::testing::MemoryChannel;
use serde_json::json;

use super::access::{Needs, ROUTES, call};
use super::cluster::{Cluster, Mood, command, see};
use super::fixture::{Answer, Fixture, OPERATOR, commands};
use crate::access::Identities;
use crate::access::jwt::unsigned;

const SUBMIT: &str = "/v1/apps/app/devices/d/commands/x";

/// Starts a server that lets in who the cluster knows: the user `u` by the returned token. The application `app`
/// belongs to the namespace `heating`, `other` to none.
async fn start(channel: &MemoryChannel, cluster: &Cluster) -> (Fixture, String) {
    let mut fixture = Fixture::start(channel).await;
    fixture.backends.identities =
        Some(Identities::new(cluster.clone(), Duration::from_secs(3_600), Clock::system()));
    fixture.restart().await;
    label(&fixture, "app", "heating").await;
    let token = unsigned(&json!({"sub": "u"}));
    cluster.know("u", &token);
    (fixture, token)
}

async fn label(fixture: &Fixture, application: &str, namespace: &str) {
    let labels = [(NAMESPACE_LABEL.to_owned(), namespace.to_owned())].into();
    let spec = ApplicationSpec { labels: Some(labels), ..ApplicationSpec::default() };
    fixture.backends.registry.put_application(&application.parse().unwrap(), spec).await.unwrap();
}

/// Checks that an answer about `app` is that of an application which is not there.
async fn assert_hidden(fixture: &Fixture, answer: &Answer, method: &str, path: &str, token: &str) {
    let absent = call(fixture, method, &format!("/v1/apps/none{path}"), token).await;
    let detail = absent.problem(404).replace("none", "app");
    assert_eq!(answer.problem(404), detail, "{method} {path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_cluster_allows_commands_the_device_and_does_nothing_else() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, token) = start(&channel, &cluster).await;
    cluster.bind("u", command("heating", "d"));
    cluster.bind("u", see("heating", "app"));
    for (method, path, needs, success) in ROUTES {
        let answer = call(&fixture, method, &format!("/v1/apps/app{path}"), &token).await;
        if needs == Needs::Scope(Scope::Command) {
            assert_eq!(answer.status, success, "{method} {path}: {answer:?}");
        } else {
            assert_hidden(&fixture, &answer, method, path, &token).await;
        }
    }
    assert_eq!(commands(&channel).len(), 1);
    let answer = fixture.get("/v1/apps", &token).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"items": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn to_whom_the_cluster_denies_it_the_application_is_as_if_it_were_not_there() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, token) = start(&channel, &cluster).await;
    cluster.bind("u", command("heating", "another"));
    cluster.bind("u", command("elsewhere", "d"));
    for (method, path, ..) in ROUTES {
        let answer = call(&fixture, method, &format!("/v1/apps/app{path}"), &token).await;
        assert_hidden(&fixture, &answer, method, path, &token).await;
    }
    assert!(commands(&channel).is_empty());
    fixture.post("/v1/apps/app/devices/another/commands/x", &token, "").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_the_applications_resource_is_told_which_right_is_missing() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, token) = start(&channel, &cluster).await;
    cluster.bind("u", see("heating", "app"));
    let missing = r#"the caller may not create devices/command "d" in namespace "heating""#;
    assert_eq!(fixture.post(SUBMIT, &token, "").await.problem(403), missing);
    // Nor is it told whether there is the device.
    let absent = fixture.post("/v1/apps/app/devices/none/commands/x", &token, "").await;
    assert_eq!(absent.problem(403), missing.replace("\"d\"", "\"none\""));
    assert!(commands(&channel).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_without_a_namespace_is_for_tokens_of_the_registry_only() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, token) = start(&channel, &cluster).await;
    for namespace in ["", "*", "heating"] {
        cluster.bind("u", command(namespace, "d"));
        cluster.bind("u", see(namespace, "other"));
    }
    let path = "/v1/apps/other/devices/d/connection";
    fixture.get(path, &token).await.problem(404);
    for namespace in ["", "*"] {
        label(&fixture, "other", namespace).await;
        fixture.get(path, &token).await.problem(404);
    }
    label(&fixture, "other", "heating").await;
    assert_eq!(fixture.get(path, &token).await.status, 200, "by the label it is reached, and at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_is_401() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, _) = start(&channel, &cluster).await;
    for (asked, token) in [(0, "no-jwt"), (0, "a.b"), (1, "a.b.c")] {
        let answer = fixture.post(SUBMIT, token, "").await;
        answer.problem(401);
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        assert_eq!(cluster.state().asked, (asked, 0), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_registry_are_not_shown_to_the_cluster() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, _) = start(&channel, &cluster).await;
    let known = fixture.token("app", &[Scope::Command]).await;
    let unknown = format!("drogue_{}", "A".repeat(43));
    for (token, status) in [(OPERATOR, 202), (&known, 202), (&unknown, 401)] {
        assert_eq!(fixture.post(SUBMIT, token, "").await.status, status);
    }
    assert_eq!(cluster.state().asked, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_lets_nobody_in() {
    let (channel, cluster) = (MemoryChannel::new(), Cluster::default());
    let (fixture, token) = start(&channel, &cluster).await;
    cluster.bind("u", command("heating", "d"));
    for mood in [Mood::Not, Mood::Never] {
        cluster.state().mood = mood;
        let answer = fixture.post(SUBMIT, &token, "").await;
        assert_eq!(answer.problem(503), "tokens cannot be checked now, try again later");
        assert!(answer.headers.contains_key("retry-after"));
    }
    cluster.state().mood = Mood::Well;
    fixture.get("/v1/apps", &token).await;
    // Who it is, is known by now; whether they may, is not.
    cluster.state().mood = Mood::Not;
    fixture.post(SUBMIT, &token, "").await.problem(503);
    assert!(commands(&channel).is_empty());
    // Who needs no cluster, is not touched by that.
    assert_eq!(fixture.post(SUBMIT, OPERATOR, "").await.status, 202);
}

//! What is left where the channels only push: no tracker follows commands.

use common::registry::Scope;
use common::testing::MemoryChannel;
use reqwest::Method;

use super::fixture::{Fixture, answer};

const DEVICE: &str = "/v1/apps/app/devices/d";
const COMMAND: &str = "/v1/apps/app/devices/d/commands/set";

#[tokio::test]
async fn what_needs_a_log_is_not_implemented_and_says_so_and_the_rest_goes_on() {
    let channel = MemoryChannel::new();
    let mut fixture = Fixture::start(&channel).await;
    fixture.backends.tracker = None;
    fixture.restart().await;
    let token = fixture.token("app", &[Scope::Command, Scope::Registry]).await;
    let id = "0190a1b2-0000-7000-8000-000000000001";
    let with_key = fixture.request(Method::POST, COMMAND, &token).header("idempotency-key", "k");
    let requests = [
        with_key,
        fixture.request(Method::POST, &format!("{COMMAND}?ttl=1m"), &token),
        fixture.request(Method::POST, &format!("{COMMAND}?supersede=k"), &token),
        fixture.request(Method::POST, &format!("{COMMAND}?wait=delivered"), &token),
        fixture.request(Method::POST, &format!("{COMMAND}?wait=reply"), &token),
        fixture.request(Method::GET, &format!("{DEVICE}/commands"), &token),
        fixture.request(Method::GET, &format!("{DEVICE}/commands/{id}"), &token),
        fixture.request(Method::DELETE, &format!("{DEVICE}/commands/{id}"), &token),
        fixture.request(Method::GET, &format!("{DEVICE}/connection"), &token),
    ];
    for request in requests {
        let what = format!("{request:?}");
        let answer = answer(request).await;
        assert_eq!(answer.status, 501, "{what}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("only push"), "{what}: {answer:?}");
    }
    assert_eq!(fixture.post(COMMAND, &token, "on").await.status, 202);
    let deleted = answer(fixture.request(Method::DELETE, DEVICE, &token)).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
}

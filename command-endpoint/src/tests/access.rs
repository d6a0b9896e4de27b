use common::registry::Scope;
use common::testing::MemoryChannel;
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::fixture::{Answer, Fixture, OPERATOR, answer, any_body, commands};

/// What a route asks of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Needs {
    /// Any token of the application.
    Any,
    Scope(Scope),
    Operator,
}

/// Every route of an application, what it needs, and the status of its success.
pub(super) const ROUTES: [(&str, &str, Needs, u16); 17] = [
    ("GET", "", Needs::Any, 200),
    ("PUT", "", Needs::Operator, 200),
    ("GET", "/devices", Needs::Scope(Scope::Registry), 200),
    ("POST", "/devices", Needs::Scope(Scope::Registry), 200),
    ("PUT", "/devices/new", Needs::Scope(Scope::Registry), 201),
    ("GET", "/devices/new", Needs::Scope(Scope::Registry), 200),
    ("DELETE", "/devices/new", Needs::Scope(Scope::Registry), 204),
    ("GET", "/tokens", Needs::Scope(Scope::Registry), 200),
    ("POST", "/tokens", Needs::Scope(Scope::Registry), 201),
    ("DELETE", "/tokens/none", Needs::Scope(Scope::Registry), 404),
    ("GET", "/events", Needs::Scope(Scope::Events), 200),
    ("POST", "/devices/d/commands/x", Needs::Scope(Scope::Command), 202),
    ("GET", "/devices/d/commands", Needs::Scope(Scope::Command), 200),
    ("GET", "/devices/d/commands/none", Needs::Scope(Scope::Command), 404),
    ("DELETE", "/devices/d/commands/none", Needs::Scope(Scope::Command), 404),
    ("GET", "/devices/d/connection", Needs::Scope(Scope::Command), 200),
    ("DELETE", "", Needs::Operator, 204),
];

pub(super) async fn call(fixture: &Fixture, method: &str, path: &str, token: &str) -> Answer {
    let request = fixture.request(method.parse().unwrap(), path, token);
    if method == "GET" && path.ends_with("/events") {
        // Its body has no end.
        let response = request.send().await.unwrap();
        if response.status() == 200 {
            return Answer { status: 200, headers: response.headers().clone(), body: Default::default() };
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        return Answer { status, headers, body: response.bytes().await.unwrap() };
    }
    answer(request.header("content-type", "application/x-ndjson").body(any_body(path))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_known_token_everything_is_401() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let unknown = format!("drogue_{}", "A".repeat(43));
    for (method, path, ..) in ROUTES {
        for token in ["", "x", &unknown, OPERATOR.trim_end_matches('y')] {
            let answer = call(&fixture, method, &format!("/v1/apps/app{path}"), token).await;
            answer.problem(401);
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
    }
    let basic = fixture.request(Method::GET, "/v1/apps", "").basic_auth(OPERATOR, Some(OPERATOR));
    answer(basic).await.problem(401);
    fixture.get("/v1/apps", "").await.problem(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_its_scopes_say() {
    for scope in Scope::ALL {
        let fixture = Fixture::start(&MemoryChannel::new()).await;
        let token = fixture.token("app", &[scope]).await;
        for (method, path, needs, success) in ROUTES {
            let answer = call(&fixture, method, &format!("/v1/apps/app{path}"), &token).await;
            if needs == Needs::Any || needs == Needs::Scope(scope) {
                assert_eq!(answer.status, success, "{scope}: {method} {path}: {answer:?}");
            } else {
                answer.problem(403);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_does_everything() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    for (method, path, _, success) in ROUTES {
        let answer = call(&fixture, method, &format!("/v1/apps/app{path}"), OPERATOR).await;
        assert_eq!(answer.status, success, "{method} {path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_application_is_as_if_it_were_not_there() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &Scope::ALL).await;
    for (method, path, ..) in ROUTES {
        let others = call(&fixture, method, &format!("/v1/apps/other{path}"), &token).await;
        let nobodys = call(&fixture, method, &format!("/v1/apps/none{path}"), &token).await;
        let detail = others.problem(404);
        assert_eq!(detail.replace("other", "none"), nobodys.problem(404), "{method} {path}");
        assert_eq!(telling(&others), telling(&nobodys), "{method} {path}");
    }
    let own = fixture.get("/v1/apps", &token).await.json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    assert_eq!(own["items"][0]["name"], "app");
    // The other one's devices are there still.
    assert_eq!(fixture.get("/v1/apps/other/devices/d", OPERATOR).await.status, 200);
}

/// Returns the headers, but for those of the connection, the time, and the length of the name.
fn telling(answer: &Answer) -> HeaderMap {
    let mut headers = answer.headers.clone();
    for name in ["connection", "date", "content-length"] {
        headers.remove(name);
    }
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_leads_to_another_tenant() {
    let channel = MemoryChannel::new();
    let fixture = Fixture::start(&channel).await;
    let token = fixture.token("app", &Scope::ALL).await;
    for application in [
        "other",
        "OTHER",
        "oth%65r",
        "App",
        "app%2F..%2Fother",
        "app/../other",
        "app%2f%2e%2e%2fother",
        "%2e%2e",
        "..",
        ".",
        "app%00",
        "app%2fdevices%2fd%2f..%2f..%2fother",
        "app;other",
        "app%20",
        "%ff",
        "",
    ] {
        let target = format!("/v1/apps/{application}/devices/d/commands/x");
        let (status, text) = fixture.raw("POST", &target, &token).await;
        assert!(status == 404 || status == 400, "{target}: {text}");
        let (status, text) = fixture.raw("GET", &format!("/v1/apps/{application}/devices/d"), &token).await;
        assert!(status == 404 || status == 400, "{application}: {text}");
    }
    for device in ["..%2f..%2fother%2fdevices%2fd", "%2e%2e", "..", "../../other/devices/d", "d%2f"] {
        let target = format!("/v1/apps/app/devices/{device}/commands/x");
        let (status, text) = fixture.raw("POST", &target, &token).await;
        assert!(status == 404 || status == 400, "{target}: {text}");
    }
    assert!(commands(&channel).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_worth_nothing() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let made = fixture.post("/v1/apps/app/tokens", OPERATOR, r#"{"scopes":["registry"]}"#).await.json();
    let token = made["token"].as_str().unwrap();
    assert_eq!(fixture.get("/v1/apps/app/devices", token).await.status, 200);
    let path = format!("/v1/apps/app/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(fixture.delete(&path, token).await.status, 204);
    fixture.get("/v1/apps/app/devices", token).await.problem(401);
    fixture.delete(&path, OPERATOR).await.problem(404);
}

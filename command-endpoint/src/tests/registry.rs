use common::auth::{Authenticator, Login, Secret};
use common::registry::Scope;
use common::testing::MemoryChannel;
use reqwest::Method;
use serde_json::json;

use super::fixture::{Fixture, OPERATOR, answer};

const DEVICES: &str = "/v1/apps/app/devices";

async fn start() -> (Fixture, String) {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &[Scope::Registry]).await;
    (fixture, token)
}

async fn can_log_in(fixture: &Fixture, user: &str, secret: &str) -> bool {
    let login = Login::parse(user, Secret::new(secret)).unwrap();
    fixture.backends.registry.authenticate(&login).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_to_be_new_is_made_or_left_alone() {
    let (fixture, _) = start().await;
    let put = async |condition: &str, body: &str| {
        let request = fixture.request(Method::PUT, "/v1/apps/new", OPERATOR);
        answer(request.header("if-none-match", condition).body(body.to_owned())).await
    };
    let made = put("*", r#"{"labels":{"a":"b"}}"#).await;
    assert_eq!((made.status, &made.json()["labels"]), (201, &json!({ "a": "b" })));
    let refused = put("*", r#"{"labels":{"a":"c"}}"#).await;
    assert_eq!(refused.problem(412), "there is an application 'new' already");
    assert_eq!(fixture.get("/v1/apps/new", OPERATOR).await.json(), made.json());
    put(r#""x""#, "").await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_are_made_shown_and_deleted() {
    let (fixture, _) = start().await;
    let made = fixture.put("/v1/apps/new", OPERATOR, "").await;
    assert_eq!((made.status, made.json()["name"].as_str()), (201, Some("new")));
    let changed = fixture.put("/v1/apps/new", OPERATOR, r#"{"name":"new","labels":{"a":"b"}}"#).await;
    assert_eq!((changed.status, &changed.json()["labels"]), (200, &json!({ "a": "b" })));
    assert_eq!(fixture.get("/v1/apps/new", OPERATOR).await.json(), changed.json());
    let all = fixture.get("/v1/apps", OPERATOR).await.json();
    let names: Vec<_> = all["items"].as_array().unwrap().iter().map(|app| app["name"].clone()).collect();
    assert_eq!(names, ["app", "new", "other"]);

    let detail = fixture.put("/v1/apps/new", OPERATOR, r#"{"lables":{}}"#).await.problem(400);
    assert!(detail.contains("`lables`"), "{detail}");
    fixture.put("/v1/apps/new", OPERATOR, r#"{"name":"newer"}"#).await.problem(400);
    fixture.put("/v1/apps/a%20b", OPERATOR, "").await.problem(400);

    assert_eq!(fixture.delete("/v1/apps/new", OPERATOR).await.status, 204);
    fixture.delete("/v1/apps/new", OPERATOR).await.problem(404);
    fixture.get("/v1/apps/new", OPERATOR).await.problem(404);
    fixture.get("/v1/apps/new/devices", OPERATOR).await.problem(404);
    fixture.put("/v1/apps/new/devices/d", OPERATOR, "").await.problem(404);
    fixture.get("/v1/apps/new/tokens", OPERATOR).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_made_changed_and_deleted() {
    let (fixture, token) = start().await;
    let path = &format!("{DEVICES}/d1");
    let spec = r#"{"name":"d1","labels":{"room":"1"},"credentials":[{"password":"secret"}]}"#;
    let made = fixture.put(path, &token, spec).await;
    let shown = json!({ "name": "d1", "enabled": true, "labels": { "room": "1" } });
    assert_eq!((made.status, made.json()), (201, shown.clone()));
    assert_eq!(made.headers["cache-control"], "no-store");
    assert_eq!(fixture.get(path, &token).await.json(), shown);
    assert!(can_log_in(&fixture, "d1@app", "secret").await);

    let changed = fixture.put(path, &token, r#"{"enabled":false}"#).await;
    assert_eq!((changed.status, &changed.json()["enabled"]), (200, &json!(false)));
    assert_eq!(changed.json()["labels"], shown["labels"]);
    assert!(!can_log_in(&fixture, "d1@app", "secret").await);
    fixture.put(path, &token, r#"{"enabled":true}"#).await;
    assert!(can_log_in(&fixture, "d1@app", "secret").await);

    assert_eq!(fixture.delete(path, &token).await.status, 204);
    assert!(!can_log_in(&fixture, "d1@app", "secret").await);
    fixture.get(path, &token).await.problem(404);
    fixture.delete(path, &token).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_token_is_shown_once() {
    let (fixture, token) = start().await;
    let path = format!("{DEVICES}/d1");
    let made = fixture.put(&path, &token, r#"{"credentials":[{"token":null},{"password":"p"}]}"#).await;
    let credentials = made.json()["credentials"].clone();
    assert_eq!(credentials.as_array().unwrap().len(), 1);
    let secret = credentials[0]["token"].as_str().unwrap();
    assert!(can_log_in(&fixture, "d1@app", secret).await);
    for answer in [
        fixture.get(&path, &token).await,
        fixture.get(DEVICES, &token).await,
        fixture.put(&path, &token, "{}").await,
    ] {
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("credentials") && !text.contains(secret), "{text}");
    }
    assert!(can_log_in(&fixture, "d1@app", secret).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_shape_is_named() {
    let (fixture, token) = start().await;
    for (body, named) in [
        (r#"{"labls":{}}"#, "`labls`"),
        (r#"{"name":"other"}"#, "'name'"),
        (r#"{"credentials":[{"pin":"1"}]}"#, "`pin`"),
        (r#"{"credentials":[{"password":""}]}"#, "credentials[0]"),
        (r#"{"credentials":[{"hash":"$1$x"}]}"#, "credentials[0]"),
        (r#"{"credentials":[{"token":"short"}]}"#, "credentials[0]"),
        (r#"{"enabled":1}"#, "column 12"),
        (r#"{"enabled":true"#, "EOF"),
        ("[]{}", "body"),
    ] {
        let detail = fixture.put(&format!("{DEVICES}/d1"), &token, body).await.problem(400);
        assert!(detail.contains(named), "{body}: {detail}");
    }
    fixture.get(&format!("{DEVICES}/d1"), &token).await.problem(404);
    fixture.get(&format!("{DEVICES}/d?x=1"), &token).await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_a_part_at_a_time() {
    let (fixture, token) = start().await;
    for i in 1..=4 {
        fixture.put(&format!("{DEVICES}/d{i}"), &token, "").await;
    }
    let mut names = Vec::new();
    let mut path = format!("{DEVICES}?limit=2");
    loop {
        let page = fixture.get(&path, &token).await.json();
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|device| device["name"].as_str().unwrap().to_owned()));
        let Some(after) = page["after"].as_str() else { break };
        assert_eq!(items.len(), 2);
        path = format!("{DEVICES}?limit=2&after={after}");
    }
    assert_eq!(names, ["d", "d1", "d2", "d3", "d4"]);
    // The last part may be as long as the limit.
    let page = fixture.get(&format!("{DEVICES}?limit=5"), &token).await.json();
    assert!(page["items"].as_array().unwrap().len() == 5 && page.get("after").is_none());
    for bad in ["limit=0", "limit=1001", "limit=x", "after=a%20b", "page=2"] {
        fixture.get(&format!("{DEVICES}?{bad}"), &token).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_shown_once_and_listed() {
    let (fixture, _) = start().await;
    let path = "/v1/apps/app/tokens";
    let made = fixture.post(path, OPERATOR, r#"{"scopes":["events","command"],"description":"ci"}"#).await;
    assert_eq!((made.status, made.headers["cache-control"].to_str().unwrap()), (201, "no-store"));
    let mut shown = made.json();
    let token = shown.as_object_mut().unwrap().remove("token").unwrap();
    assert_eq!(shown["scopes"], json!(["command", "events"]));
    assert_eq!(made.headers["location"], format!("{path}/{}", shown["id"].as_str().unwrap()));
    let listed = fixture.get(path, OPERATOR).await;
    assert!(listed.json()["items"].as_array().unwrap().contains(&shown), "{listed:?}");
    assert!(!String::from_utf8_lossy(&listed.body).contains(token.as_str().unwrap()));
    for (body, named) in [
        ("", "`scopes`"),
        (r#"{"scopes":[]}"#, "scopes"),
        (r#"{"scopes":["admin"]}"#, "`admin`"),
        (r#"{"scopes":["events"],"expires":1}"#, "`expires`"),
    ] {
        let detail = fixture.post(path, OPERATOR, body).await.problem(400);
        assert!(detail.contains(named), "{body}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_away_a_scope_that_they_have_not() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &[Scope::Registry, Scope::Events]).await;
    let path = "/v1/apps/app/tokens";
    for (scopes, status) in
        [(r#"["events"]"#, 201), (r#"["registry","events"]"#, 201), (r#"["events","command"]"#, 403)]
    {
        let answer = fixture.post(path, &token, &format!(r#"{{"scopes":{scopes}}}"#)).await;
        assert_eq!(answer.status, status, "{scopes}");
    }
}

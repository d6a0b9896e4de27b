//! A server that cannot have tokens of the cluster reviewed lets nobody in by them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};
use tests::binary::{drogue, run_directory};
use tests::kube;
use tests::secrets::{MARK, payload, unique};
use tests::server::Server;

/// Writes a kubeconfig of a cluster and a user.
fn kubeconfig(cluster: &Value, user: &Value) -> PathBuf {
    let path = run_directory().join(format!("kubeconfig-{}", unique()));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// Makes a token that looks like one of a cluster, and that a log which tells it is found out by.
fn token() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{MARK}", part("{}"), part(&json!({"sub": MARK}).to_string()))
}

/// Checks that nobody is let in by such a token, and that others are not touched by that.
async fn assert_unreviewed(kubeconfig: PathBuf, reason: &str) {
    let environment = [("KUBECONFIG", kubeconfig.to_str().unwrap())];
    let server = Server::start_in(&environment, &["--kube-access"]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let path = format!("{}/commands/set-temp", tenant.path(&device));
    let api = tenant.api.with_token(token());
    for _ in 0..2 {
        let answer = api.post(&path, "application/json", payload()).await;
        answer.expect_problem(503);
        assert_eq!(answer.json()["detail"], "tokens cannot be checked now, try again later");
    }
    tenant.api.post(&path, "application/json", payload()).await.expect_status(202);
    let reviews = [("kind", "token"), ("result", "unavailable")];
    assert_eq!(server.cloud().metric("drogue_access_reviews_total", &reviews).await, 2.0);
    let log = server.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("bearers cannot be reviewed")).collect();
    assert!(told.len() == 1 && told[0].contains(reason), "once, with its reason: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_nobody_is_let_in_by_its_tokens() {
    let nobody = tests::ports::free();
    let cluster = json!({"server": format!("https://{nobody}")});
    assert_unreviewed(kubeconfig(&cluster, &json!({})), "the API server makes no TokenReview").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_answer_lets_nobody_in() {
    // Connections are taken by the system, and nobody ever reads them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cluster = json!({"server": format!("http://{}", silent.local_addr().unwrap())});
    assert_unreviewed(kubeconfig(&cluster, &json!({})), "no answer within 2 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_not_ask_lets_nobody_in() {
    let Some(namespace) = kube::given("a server that may not review").await else { return };
    namespace
        .apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "drogue"}}))
        .await;
    let client = namespace.cluster().client();
    let accounts = ::kube::Api::<ServiceAccount>::namespaced(client, namespace.name());
    let made = accounts.create_token_request("drogue", &Default::default(), &TokenRequest::default()).await;
    let user = json!({"token": made.unwrap().status.unwrap().token});
    // Whom the server trusts is not what is tested.
    let cluster = json!({"server": namespace.cluster().address(), "insecure-skip-tls-verify": true});
    assert_unreviewed(kubeconfig(&cluster, &user), "cannot create resource").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_the_option_is_a_bad_one() {
    let directory = run_directory().join("no-cluster");
    let mut command = Command::new(drogue());
    command.args(["up", "--kube-access", "--data-dir"]).arg(&directory);
    command.env("KUBECONFIG", "/nowhere").env("HOME", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("there is no Kubernetes to talk to") && told.contains("--kube-access"), "{told}");
    assert!(!directory.exists(), "nothing was made");
}

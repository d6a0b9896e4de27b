//! Applications that show their ServiceAccount's token, and RBAC that says which devices they may command.

use ::kube::api::{Api as Resources, PostParams};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};
use tests::api::{Answer, Api};
use tests::devices::HttpDevice;
use tests::kube::{self, Namespace};
use tests::secrets::{MARK, payload};
use tests::server::Server;
use tests::tenant::{Device, Tenant};
use tests::wait::eventually;
use tests::waiting::{LONG, Waiting};

const RBAC: &str = "rbac.authorization.k8s.io/v1";
/// The ServiceAccount. Its tokens name it, so that a log which tells one is found out.
const ACCOUNT: &str = MARK;

/// A server that lets in who the cluster knows, and an application of a namespace there.
struct World {
    server: Server,
    namespace: Namespace,
    tenant: Tenant,
    device: Device,
}

impl World {
    /// Makes one in which a ServiceAccount may command one device. Says visibly if the test is skipped.
    async fn begin(test: &str, options: &[&str]) -> Option<Self> {
        let namespace = kube::given(test).await?;
        let options = [&["--kube-access", "--kube-access-cache=1s"], options].concat();
        let server = Server::start(&options).await;
        let tenant = server.cloud().tenant().await;
        let device = tenant.device().await;
        let world = Self { server, namespace, tenant, device };
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
        world.namespace.apply(account).await;
        world.label(&json!({"iot.drogue.io/namespace": world.namespace.name()})).await;
        let device = &world.device.name;
        world
            .allow(
                "command",
                &json!({"apiGroups": ["iot.drogue.io"], "resources": ["devices/command"],
            "resourceNames": [device], "verbs": ["create"]}),
            )
            .await;
        Some(world)
    }

    /// Sets the labels of the application, as the operator.
    async fn label(&self, labels: &Value) {
        let application = format!("apps/{}", self.tenant.app);
        let operator = &self.server.cloud().operator;
        operator.put(&application, &json!({"labels": labels})).await.expect_status(200);
    }

    /// Gives the ServiceAccount a right, by a role and a binding of this name.
    async fn allow(&self, name: &str, rule: &Value) {
        let metadata = json!({"name": name});
        let role = json!({"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": [rule]});
        self.namespace.apply(role).await;
        self.namespace
            .apply(json!({
                "apiVersion": RBAC, "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace.name()}],
            }))
            .await;
    }

    /// Makes a token of the ServiceAccount, and returns the API with it.
    async fn application(&self, audiences: &[&str]) -> Api {
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        let spec = TokenRequestSpec { audiences, expiration_seconds: Some(600), bound_object_ref: None };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let cluster = self.namespace.cluster();
        let accounts = Resources::<ServiceAccount>::namespaced(cluster.client(), self.namespace.name());
        let made = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.unwrap();
        self.tenant.api.with_token(made.status.unwrap().token)
    }

    /// Sends a command to a device.
    async fn command(&self, api: &Api, device: &Device) -> Answer {
        let path = format!("{}/commands/set-temp", self.tenant.path(device));
        api.post(&path, "application/json", payload()).await
    }

    /// Sends commands until one is answered with a status: what the cluster was told reaches who decides in its own time.
    async fn until(&self, api: &Api, status: u16) {
        eventually("the decision is another one", || async {
            (self.command(api, &self.device).await.status == status).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_commands_the_device_that_rbac_names_and_no_other() {
    let Some(world) = World::begin("a ServiceAccount commands a device", &[]).await else { return };
    let api = world.application(&[]).await;
    world.until(&api, 202).await;
    let waiting = Waiting::begin(HttpDevice, &world.tenant, &world.device, LONG).await;
    let id = world.command(&api, &world.device).await.expect_status(202).json()["id"].clone();
    let command = waiting.end().await.expect("the command arrives");
    assert_eq!(id, command.id);
    let path = world.tenant.path(&world.device);
    api.get(&format!("{path}/commands")).await.expect_status(200);
    api.get(&format!("{path}/commands/{}", command.id)).await.expect_status(200);
    api.delete(&format!("{path}/commands/{}", command.id)).await.expect_problem(409);
    api.get(&format!("{path}/connection")).await.expect_status(200);

    let other = world.tenant.device().await;
    world.command(&api, &other).await.expect_problem(404);
    for hidden in ["", "/devices", "/events", "/tokens"] {
        api.get(&format!("apps/{}{hidden}", world.tenant.app)).await.expect_problem(404);
    }
    assert_eq!(api.get("apps").await.json(), json!({"items": []}));
    let denied = [("kind", "access"), ("result", "denied")];
    assert!(world.server.cloud().metric("drogue_access_reviews_total", &denied).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_get_the_application_is_told_which_right_is_missing() {
    let Some(world) = World::begin("a missing right is named", &[]).await else { return };
    let api = world.application(&[]).await;
    let other = world.tenant.device().await;
    world.command(&api, &other).await.expect_problem(404);
    let rule = json!({"apiGroups": ["iot.drogue.io"], "resources": ["applications"], "verbs": ["get"]});
    world.allow("see", &rule).await;
    let answer = eventually("the missing right is named", || async {
        Some(world.command(&api, &other).await).filter(|answer| answer.status != 404)
    })
    .await;
    answer.expect_problem(403);
    let missing = format!(
        "the caller may not create devices/command \"{}\" in namespace \"{}\"",
        other.name,
        world.namespace.name()
    );
    assert_eq!(answer.json()["detail"], missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_revoked_is_gone() {
    let Some(world) = World::begin("a right is revoked", &[]).await else { return };
    let api = world.application(&[]).await;
    world.until(&api, 202).await;
    world.namespace.delete(RBAC, "RoleBinding", "command").await;
    world.until(&api, 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_deleted_service_account_is_worth_nothing() {
    let Some(world) = World::begin("a ServiceAccount is deleted", &[]).await else { return };
    let api = world.application(&[]).await;
    world.until(&api, 202).await;
    world.namespace.delete("v1", "ServiceAccount", ACCOUNT).await;
    world.until(&api, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_is_worth_nothing() {
    let audience = ["--kube-audience=drogue", "--kube-audience=fleet"];
    let Some(world) = World::begin("audiences of tokens", &audience).await else { return };
    world.until(&world.application(&["drogue"]).await, 202).await;
    world.until(&world.application(&["other", "fleet"]).await, 202).await;
    for wrong in [&[][..], &["other"]] {
        let api = world.application(wrong).await;
        world.command(&api, &world.device).await.expect_problem(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_cluster_did_not_make_is_worth_nothing() {
    let Some(world) = World::begin("a token is forged", &[]).await else { return };
    let api = world.application(&[]).await;
    world.until(&api, 202).await;
    let (claims, signature) = api.token().rsplit_once('.').unwrap();
    let mut forged: Vec<char> = signature.chars().collect();
    forged[9] = if forged[9] == 'A' { 'B' } else { 'A' };
    let forged = api.with_token(format!("{claims}.{}", String::from_iter(forged)));
    world.command(&forged, &world.device).await.expect_problem(401);
    // One for another audience than the API server's.
    let other = world.application(&["other"]).await;
    world.command(&other, &world.device).await.expect_problem(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_without_a_namespace_is_not_reached() {
    let Some(world) = World::begin("an application has no namespace", &[]).await else { return };
    let api = world.application(&[]).await;
    world.until(&api, 202).await;
    world.label(&json!({})).await;
    world.command(&api, &world.device).await.expect_problem(404);
    world.command(&world.tenant.api, &world.device).await.expect_status(202);
    world.label(&json!({"iot.drogue.io/namespace": "default"})).await;
    world.command(&api, &world.device).await.expect_problem(404);
}

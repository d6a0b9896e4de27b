//! A namespace with the real controller, which keeps the real server in step.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::cloud::Cloud;
use tests::daemon::Daemon;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::kube::{self, Namespace};
use tests::tenant::Device;
use tests::wait::eventually;
use tests::{binary, clients, secrets, server};

pub(super) const VERSION: &str = "iot.drogue.io/v1";
/// Longer than a test: what happens does so because something was watched.
pub(super) const NEVER: &str = "1h";

/// A namespace with a controller.
pub(super) struct World {
    pub(super) cloud: Cloud,
    /// The application of the test.
    pub(super) app: String,
    pub(super) namespace: Namespace,
    controller: Option<Daemon>,
    resync: &'static str,
    starts: u32,
}

impl World {
    /// Starts a controller for a namespace of its own, and the server that all tests share. Says visibly if `test` is
    /// skipped.
    pub(super) async fn begin(test: &str, resync: &'static str) -> Option<Self> {
        Self::begin_with(test, resync, None).await
    }

    /// Starts a controller for a server of the test's own.
    pub(super) async fn begin_with(test: &str, resync: &'static str, cloud: Option<&Cloud>) -> Option<Self> {
        let namespace = kube::given(test).await?;
        if !clients::have(test, &["kubectl"]) {
            return None;
        }
        define();
        let cloud = cloud.unwrap_or_else(|| server::shared().cloud()).clone();
        let app = format!("a-{}", secrets::unique());
        let mut world = Self { cloud, app, namespace, controller: None, resync, starts: 0 };
        world.start();
        Some(world)
    }

    /// Starts the controller.
    pub(super) fn start(&mut self) {
        let log = File::create(self.log_file(self.starts)).unwrap();
        self.starts += 1;
        let mut command = Command::new(binary::drogue());
        command
            .args([
                "controller",
                "--log=trace",
                "--resync",
                self.resync,
                "--kube-namespace",
                self.namespace.name(),
            ])
            .args(["--api", &format!("http://{}", self.cloud.addresses.api)])
            .env("DROGUE_TOKEN", self.cloud.operator.token());
        self.controller = Some(Daemon::spawn(command.stdout(Stdio::null()).stderr(log)));
    }

    /// Ends the controller at once, as a crash does.
    pub(super) fn kill(&mut self) {
        self.controller.take().unwrap().kill();
    }

    /// Returns what the latest start of the controller logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file(self.starts - 1)).unwrap()
    }

    fn log_file(&self, start: u32) -> PathBuf {
        binary::run_directory().join(format!("controller-{}-{start}.log", self.app))
    }

    /// Applies the application.
    pub(super) async fn application(&self, labels: Value) {
        let spec = json!({ "labels": labels });
        let metadata = json!({ "name": self.app });
        let object =
            json!({"apiVersion": VERSION, "kind": "Application", "metadata": metadata, "spec": spec});
        self.namespace.apply(object).await;
    }

    /// Applies a device of the application; `spec` is what is in it beside that.
    pub(super) async fn device(&self, name: &str, mut spec: Value) {
        spec["application"] = json!(self.app);
        let metadata = json!({ "name": name });
        self.namespace
            .apply(json!({"apiVersion": VERSION, "kind": "Device", "metadata": metadata, "spec": spec}))
            .await;
    }

    /// Applies a Secret with one value, and returns what a device's `credentials` say to log in with that.
    pub(super) async fn secret(&self, name: &str, kind: &str, value: &str) -> Value {
        let metadata = json!({ "name": name });
        let data = json!({ "it": value });
        self.namespace
            .apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}))
            .await;
        json!([{ kind: { "name": name, "key": "it" } }])
    }

    /// Makes the application and a device with a password, and waits until the device can log in.
    pub(super) async fn device_with_password(&self, name: &str) -> Device {
        let device = self.known(name, &secrets::password());
        self.application(json!({})).await;
        let credentials = self.secret(name, "passwordSecret", &device.secret).await;
        self.device(name, json!({ "credentials": credentials })).await;
        self.until("Device", name, "Ready", ("True", "Applied")).await;
        assert!(self.logs_in(&device).await);
        device
    }

    /// Returns a device of the application as it logs in.
    pub(super) fn known(&self, name: &str, secret: &str) -> Device {
        Device { app: self.app.clone(), name: name.to_owned(), secret: secret.to_owned() }
    }

    /// Tells whether a device can log in.
    pub(super) async fn logs_in(&self, device: &Device) -> bool {
        HttpDevice.publish(self.cloud.gate(), device, "temperature", b"{}").await.is_ok()
    }

    /// Returns what the registry says of the application, or of a device of it.
    pub(super) async fn registered(&self, device: Option<&str>) -> Option<Value> {
        let path = self.path(device);
        let answer = self.cloud.operator.get(&path).await;
        (answer.status == 200).then(|| answer.json())
    }

    /// Returns the path of the application, or of a device of it, in the API.
    pub(super) fn path(&self, device: Option<&str>) -> String {
        let device = device.map(|device| format!("/devices/{device}")).unwrap_or_default();
        format!("apps/{}{device}", self.app)
    }

    /// Waits until the registry says what is wanted.
    pub(super) async fn until_registered(
        &self,
        device: Option<&str>,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) {
        eventually("the registry is in step", || async {
            wanted(self.registered(device).await.as_ref()).then_some(())
        })
        .await;
    }

    /// Returns a resource, if it is there.
    pub(super) async fn resource(&self, kind: &str, name: &str) -> Option<Value> {
        let resource = self.namespace.objects(VERSION, kind).get_opt(name).await.unwrap();
        resource.map(|resource| serde_json::to_value(resource).unwrap())
    }

    /// Returns a condition of a resource, if it has that.
    pub(super) async fn condition(&self, kind: &str, name: &str, condition: &str) -> Option<Value> {
        let resource = self.resource(kind, name).await?;
        let conditions = resource["status"]["conditions"].as_array()?;
        conditions.iter().find(|one| one["type"] == condition).cloned()
    }

    /// Waits until a condition has a status and a reason, and returns it.
    pub(super) async fn until(&self, kind: &str, name: &str, condition: &str, wanted: (&str, &str)) -> Value {
        eventually(&format!("{kind} {name} is {condition}: {wanted:?}"), || async {
            let said = self.condition(kind, name, condition).await?;
            (said["status"] == wanted.0 && said["reason"] == wanted.1).then_some(said)
        })
        .await
    }

    /// Asks for a resource to be deleted.
    pub(super) async fn delete(&self, kind: &str, name: &str) {
        self.namespace.delete(VERSION, kind, name).await;
    }

    /// Waits until a resource is gone.
    pub(super) async fn gone(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name} is gone"), || async {
            self.resource(kind, name).await.is_none().then_some(())
        })
        .await;
    }

    /// Deletes all resources, waits until they are gone, and looks whether the controller told a secret.
    pub(super) async fn end(self) {
        for kind in ["devices", "applications"] {
            kubectl(&["-n", self.namespace.name(), "delete", kind, "--all", "--timeout=60s"], b"");
        }
        for start in 0..self.starts {
            let log = fs::read_to_string(self.log_file(start)).unwrap();
            let told = secrets::told_in(&log);
            assert!(told.is_empty(), "the log tells secrets: {told:#?}");
        }
    }
}

/// Defines the resources. They stay: other tests need them, too.
fn define() {
    let printed = Command::new(binary::drogue()).args(["controller", "--print-crds"]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &printed.stdout);
    let names = ["crd/applications.iot.drogue.io", "crd/devices.iot.drogue.io"];
    kubectl(&[&["wait", "--for=condition=Established"], names.as_slice()].concat(), b"");
}

/// Runs kubectl, and returns what it printed.
pub(super) fn kubectl(arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

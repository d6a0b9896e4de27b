//! Keeps applications in step.

use std::sync::Arc;

use common::id::AppId;
use common::kubernetes::NAMESPACE_LABEL;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};

use super::context::{Context, FINALIZER, SYNCING, api, uid};
use super::error::ControllerError;
use super::plan::{Refusal, Step, application_status, step};
use super::resources::Application;

/// How often to try to make an application that others make and delete meanwhile.
const ATTEMPTS: usize = 3;

/// Brings the registry in step with an application.
///
/// # Errors
/// Fails if something cannot be reached; the status tells it, if that can be.
pub(super) async fn reconcile(
    application: Arc<Application>,
    context: Arc<Context>,
) -> Result<Action, ControllerError> {
    if !context.synced.is_complete() {
        return Ok(Action::requeue(SYNCING));
    }
    let api = api(&context.client, &*application);
    let result = finalizer(&api, FINALIZER, application.clone(), |event| async {
        match event {
            Event::Apply(application) => context.apply(&application).await,
            Event::Cleanup(application) => context.clean_up(&application).await,
        }
    })
    .await;
    context.settle(&*application, result)
}

impl Context {
    async fn apply(&self, application: &Application) -> Result<Action, ControllerError> {
        let result = self.write(application).await;
        match &result {
            Ok(Ok(app)) => self.followers.follow(application, app),
            Ok(Err(_)) => self.followers.leave(application),
            // It is ours still, for all that is known.
            Err(_) => {}
        }
        let refusal = match &result {
            Ok(Ok(_)) => None,
            Ok(Err(refusal)) => Some(refusal.clone()),
            // Its devices go on with what was found out before.
            Err(_) if application.is_ready() => None,
            Err(error) => Some(Refusal::new(error.reason(), error.to_string())),
        };
        let status = application_status(application, refusal.as_ref(), self.clock.wall());
        self.write_status(application, application.status.as_ref(), &status).await?;
        let refused = result?.err();
        Ok(Action::requeue(refused.and_then(|refusal| refusal.again).unwrap_or(self.resync)))
    }

    /// Writes an application if the registry has it otherwise, and returns its id.
    async fn write(&self, application: &Application) -> Result<Result<AppId, Refusal>, ControllerError> {
        let name = application.name_any();
        let app: AppId = match name.parse() {
            Ok(app) => app,
            Err(error) => return Ok(Err(Refusal::new("InvalidId", format!("'{name}': {error}")))),
        };
        let _turn = self.writing.lock().await;
        match self.bring(application, &app).await {
            Ok(Err(refusal)) => return Ok(Err(refusal)),
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::info!(application = %app, "made an application");
                self.renew_devices(application).await;
            }
            Err(error) if error.is_of_the_resource() => {
                return Ok(Err(Refusal::new("Refused", error.to_string())));
            }
            Err(error) => return Err(error),
        }
        Ok(Ok(app))
    }

    /// Brings an application to what it should be, and tells whether it was made.
    async fn bring(
        &self,
        application: &Application,
        app: &AppId,
    ) -> Result<Result<bool, Refusal>, ControllerError> {
        for _ in 0..ATTEMPTS {
            let registered = self.registry.application(app).await?;
            match step(application, registered.as_ref()) {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(Step::Keep) => return Ok(Ok(false)),
                Ok(Step::Write(labels)) => return self.registry.put_application(app, labels).await.map(Ok),
                Ok(Step::Make(labels)) => {
                    if self.registry.make_application(app, labels).await? {
                        return Ok(Ok(true));
                    }
                    // Somebody else was faster: whose it is now, is to be seen.
                }
            }
        }
        Err(ControllerError::Contended(app.clone()))
    }

    /// Has the devices of an application written again: in one that was made anew there are none.
    async fn renew_devices(&self, application: &Application) {
        for device in self.devices_of(application) {
            self.memory.outdated(uid(&*device));
        }
        self.nudge_devices_of(application).await;
    }

    async fn clean_up(&self, application: &Application) -> Result<Action, ControllerError> {
        let result = self.delete(application).await;
        if let Err(error) = &result {
            let refusal = Refusal::new(error.reason(), error.to_string());
            let status = application_status(application, Some(&refusal), self.clock.wall());
            self.write_status(application, application.status.as_ref(), &status).await?;
        }
        result?;
        self.followers.leave(application);
        self.memory.forget(uid(application));
        Ok(Action::await_change())
    }

    async fn delete(&self, application: &Application) -> Result<(), ControllerError> {
        let devices = self.devices_of(application).len();
        if devices > 0 {
            return Err(ControllerError::DevicesRemain(devices));
        }
        let Ok(app) = application.name_any().parse::<AppId>() else { return Ok(()) };
        let _turn = self.writing.lock().await;
        let registered = self.registry.application(&app).await?;
        let owner = registered.as_ref().and_then(|app| app.labels.get(NAMESPACE_LABEL));
        if owner.is_some() && owner == application.namespace().as_ref() {
            self.registry.delete_application(&app).await?;
            tracing::info!(application = %app, "deleted an application");
        }
        Ok(())
    }
}

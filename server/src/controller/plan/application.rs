//! Applications.

use std::time::Duration;

use common::id::AppId;
use common::kubernetes::NAMESPACE_LABEL;
use common::registry::{Application as Registered, Labels};
use common::time::Timestamp;
use kube::ResourceExt;

use super::{Refusal, readiness};
use crate::controller::conditions::condition;
use crate::controller::resources::{Application, ApplicationStatus, READY};

/// How often to look whether an application was adopted.
const ADOPTION: Duration = Duration::from_secs(15);

/// What the registry is to be told of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) enum Step {
    /// It is as it should be.
    Keep,
    /// It is made with these labels.
    Make(Labels),
    /// It gets these labels.
    Write(Labels),
}

/// Decides what the registry is to be told of an application, of which it has `registered`.
///
/// # Errors
/// Refuses an application that is another's.
pub(in crate::controller) fn step(
    application: &Application,
    registered: Option<&Registered>,
) -> Result<Step, Refusal> {
    let namespace = application.namespace().unwrap_or_default();
    let mut labels = application.spec.labels.clone();
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    let Some(registered) = registered else { return Ok(Step::Make(labels)) };
    match registered.labels.get(NAMESPACE_LABEL) {
        Some(owner) if *owner == namespace => {}
        Some(owner) => return Err(not_ours(&registered.name, &namespace, &format!("namespace '{owner}'"))),
        None => return Err(not_ours(&registered.name, &namespace, "no namespace")),
    }
    Ok(if registered.labels == labels { Step::Keep } else { Step::Write(labels) })
}

fn not_ours(name: &AppId, namespace: &str, owner: &str) -> Refusal {
    let message = format!(
        "the registry has an application '{name}' of {owner}: choose another name, or let the operator give it to this \
         namespace by PUT /v1/apps/{name} with {{\"labels\": {{\"{NAMESPACE_LABEL}\": \"{namespace}\"}}}}"
    );
    Refusal::new("NotOurs", message).again(ADOPTION)
}

/// Returns the status of an application.
pub(in crate::controller) fn application_status(
    application: &Application,
    refusal: Option<&Refusal>,
    now: Timestamp,
) -> ApplicationStatus {
    let old = application.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = application.metadata.generation;
    ApplicationStatus {
        observed_generation: generation,
        conditions: vec![condition(READY, &readiness(refusal), old, generation, now)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::resources::ApplicationSpec;

    fn application(labels: &[(&str, &str)]) -> Application {
        let mut application = Application::new("a", ApplicationSpec { labels: map(labels) });
        application.metadata.namespace = Some("ns".to_owned());
        application.metadata.generation = Some(3);
        application
    }

    fn map(labels: &[(&str, &str)]) -> Labels {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn registered(labels: &[(&str, &str)]) -> Registered {
        Registered { name: "a".parse().unwrap(), labels: map(labels) }
    }

    #[test]
    fn an_application_is_made_with_the_label_of_its_namespace() {
        let expected = map(&[("x", "1"), (NAMESPACE_LABEL, "ns")]);
        assert_eq!(step(&application(&[("x", "1")]), None), Ok(Step::Make(expected)));
        let forged = application(&[(NAMESPACE_LABEL, "other")]);
        assert_eq!(step(&forged, None), Ok(Step::Make(map(&[(NAMESPACE_LABEL, "ns")]))));
    }

    #[test]
    fn one_that_is_as_it_should_be_is_left_alone() {
        let wanted = application(&[("x", "1")]);
        assert_eq!(step(&wanted, Some(&registered(&[("x", "1"), (NAMESPACE_LABEL, "ns")]))), Ok(Step::Keep));
        let changed = registered(&[("x", "2"), ("y", ""), (NAMESPACE_LABEL, "ns")]);
        let expected = map(&[("x", "1"), (NAMESPACE_LABEL, "ns")]);
        assert_eq!(step(&wanted, Some(&changed)), Ok(Step::Write(expected)));
    }

    #[test]
    fn what_others_made_is_not_ours_and_the_message_says_how_to_adopt_it() {
        for labels in [[].as_slice(), &[(NAMESPACE_LABEL, "other")]] {
            let refusal = step(&application(&[]), Some(&registered(labels))).unwrap_err();
            assert_eq!(refusal.reason, "NotOurs");
            let how = r#"PUT /v1/apps/a with {"labels": {"iot.drogue.io/namespace": "ns"}}"#;
            assert!(refusal.message.contains(how), "{refusal}");
            assert!(refusal.again.is_some());
        }
    }

    #[test]
    fn a_status_is_the_same_until_something_changes() {
        let at = Timestamp::from_millis;
        let mut application = application(&[]);
        let first = application_status(&application, None, at(1_000));
        assert_eq!((first.conditions.len(), first.observed_generation), (1, Some(3)));
        assert_eq!(
            (first.conditions[0].status.as_str(), first.conditions[0].reason.as_str()),
            ("True", "Applied")
        );
        application.status = Some(first.clone());
        assert_eq!(application_status(&application, None, at(9_000)), first);
        let refused = application_status(&application, Some(&Refusal::new("NotOurs", "m")), at(9_000));
        assert_eq!(
            (refused.conditions[0].status.as_str(), refused.conditions[0].message.as_str()),
            ("False", "m")
        );
    }
}

//! Bearers of the cluster: TokenReview says who they are, SubjectAccessReview what they may do.

use common::BoxFuture;
use common::auth::Secret;
use common::kubernetes::{Cluster, ClusterError, GROUP};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Resource;
use kube::api::{PostParams, Request};
use kube::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::identity::{Action, Identity, Reviewer, Right, Unreviewed};

/// Has the API server review tokens and rights.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    cluster: Cluster,
    audiences: Vec<String>,
}

impl Kubernetes {
    /// Takes tokens for one of the audiences; without any, for that of the API server.
    pub(crate) fn new(cluster: Cluster, audiences: Vec<String>) -> Self {
        Self { cluster, audiences }
    }

    async fn identify(&self, token: &Secret) -> Result<Option<Identity>, Unreviewed> {
        let audiences = Some(self.audiences.clone()).filter(|audiences| !audiences.is_empty());
        let spec = TokenReviewSpec { token: Some(token.expose().to_owned()), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = self.create(&review).await.map_err(|Unreviewed(reason)| {
            // An intermediary may answer with what it was sent.
            Unreviewed(reason.replace(token.expose(), "***"))
        })?;
        Ok(identity(review, &self.audiences))
    }

    async fn allows(&self, identity: &Identity, right: &Right) -> Result<bool, Unreviewed> {
        let Identity { user, uid, groups, extra } = identity.clone();
        let spec = SubjectAccessReviewSpec {
            user: Some(user),
            uid,
            groups: Some(groups),
            extra: Some(extra),
            resource_attributes: Some(attributes(right)),
            non_resource_attributes: None,
        };
        let review = self.create(&SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await?;
        Ok(review.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }

    /// Creates a review, which is how its answer is got.
    async fn create<T>(&self, review: &T) -> Result<T, Unreviewed>
    where
        T: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let kind = T::kind(&());
        let no_review = |_: serde_json::Error| Unreviewed(format!("the answer is no {kind}"));
        let body = serde_json::to_vec(review).map_err(no_review)?;
        let request = Request::new(T::url_path(&(), None)).create(&PostParams::default(), body);
        let failed = ClusterError::of(format!("the API server makes no {kind}"));
        let asked = async { self.cluster.client().request_text(request.map_err(Error::BuildRequest)?).await };
        // Not `Api::create`: it logs an answer that it does not understand, and with it the token.
        let text = asked.await.map_err(|error| Unreviewed(failed(error).to_string()))?;
        serde_json::from_str(&text).map_err(no_review)
    }
}

impl Reviewer for Kubernetes {
    fn identify<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Identity>, Unreviewed>> {
        Box::pin(self.identify(token))
    }

    fn allows<'a>(
        &'a self,
        identity: &'a Identity,
        right: &'a Right,
    ) -> BoxFuture<'a, Result<bool, Unreviewed>> {
        Box::pin(self.allows(identity, right))
    }
}

/// Reads who bears the token, if it is good for one of the audiences.
fn identity(review: TokenReview, audiences: &[String]) -> Option<Identity> {
    let status = review.status?;
    if status.authenticated != Some(true) {
        return None;
    }
    // An authenticator that knows no audiences answers without any: who asked for some must look.
    let answered = status.audiences.unwrap_or_default();
    if !audiences.is_empty() && !audiences.iter().any(|audience| answered.contains(audience)) {
        return None;
    }
    let user = status.user?;
    Some(Identity {
        user: user.username.filter(|name| !name.is_empty())?,
        uid: user.uid,
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

fn attributes(right: &Right) -> ResourceAttributes {
    let (verb, resource, subresource, name) = match &right.action {
        Action::Command(device) => ("create", "devices", Some("command".to_owned()), device.to_string()),
        Action::SeeApplication(name) => ("get", "applications", None, name.clone()),
    };
    ResourceAttributes {
        group: Some(GROUP.to_owned()),
        namespace: Some(right.namespace.clone()),
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        name: Some(name),
        ..ResourceAttributes::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reviewed(status: Value, audiences: &[&str]) -> Option<Identity> {
        let review = serde_json::from_value(json!({"spec": {}, "status": status})).unwrap();
        let audiences: Vec<_> = audiences.iter().map(|&audience| audience.to_owned()).collect();
        identity(review, &audiences)
    }

    #[test]
    fn only_who_is_authenticated_for_the_audience_is_somebody() {
        let user = json!({"username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}});
        let status = |authenticated: bool, audiences: Value| json!({"authenticated": authenticated, "user": user, "audiences": audiences});
        let found = reviewed(status(true, json!(["a", "b"])), &["b", "c"]).unwrap();
        assert_eq!((found.user.as_str(), found.uid.as_deref()), ("u", Some("1")));
        assert_eq!((found.groups, found.extra["k"].clone()), (vec!["g".to_owned()], vec!["v".to_owned()]));
        assert!(reviewed(status(true, json!(null)), &[]).is_some());
        assert!(reviewed(status(true, json!(null)), &["b"]).is_none());
        assert!(reviewed(status(true, json!(["a"])), &["b"]).is_none());
        assert!(reviewed(status(false, json!(["b"])), &["b"]).is_none());
        assert!(reviewed(json!({"authenticated": true, "user": {"username": ""}}), &[]).is_none());
        assert!(reviewed(json!(null), &[]).is_none());
    }

    #[test]
    fn a_right_is_asked_for_as_decided() {
        let asked = |action| {
            let right = Right { namespace: "heating".to_owned(), action };
            serde_json::to_value(attributes(&right)).unwrap()
        };
        assert_eq!(
            asked(Action::Command("device_id".parse().unwrap())),
            json!({"group": "iot.drogue.io", "namespace": "heating", "verb": "create", "resource": "devices",
                   "subresource": "command", "name": "device_id"})
        );
        assert_eq!(
            asked(Action::SeeApplication("house".to_owned())),
            json!({"group": "iot.drogue.io", "namespace": "heating", "verb": "get",
                   "resource": "applications", "name": "house"})
        );
    }
}

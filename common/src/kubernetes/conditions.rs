//! What the controller of an object says of it: the conditions of its status.

use kube::api::DynamicObject;
use serde_json::Value;

/// Says why a condition is not true, if so: by its message, else by that of another one that is not.
pub fn unready(object: &DynamicObject, kind: &str) -> Option<String> {
    if let Some(reason) = outdated(object) {
        return Some(reason);
    }
    let Some(ready) = condition(object, kind) else {
        return Some("its controller has not said anything yet; is it installed?".to_owned());
    };
    if ready["status"] == "True" {
        return None;
    }
    let conditions = object.data["status"]["conditions"].as_array().into_iter().flatten();
    let others = conditions.filter(|condition| condition["status"] != "True");
    let mut all = std::iter::once(ready).chain(others);
    let text = |condition: &Value, member: &str| {
        condition[member].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let said = all.clone().find_map(|condition| text(condition, "message"));
    let said = said.or_else(|| all.find_map(|condition| text(condition, "reason")));
    Some(said.unwrap_or_else(|| "its controller does not say why".to_owned()))
}

/// Says that a status is older than what is asked for, if so.
pub fn outdated(object: &DynamicObject) -> Option<String> {
    let seen = object.data["status"]["observedGeneration"].as_i64();
    let is_old = seen.zip(object.metadata.generation).is_some_and(|(seen, now)| seen < now);
    is_old.then(|| "its controller has not seen the last change yet".to_owned())
}

/// Returns what a condition of an object is, if that was said.
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    object.data["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(status: Value) -> Option<String> {
        let metadata = json!({"name": "x", "generation": 2});
        unready(&serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap(), "Ready")
    }

    #[test]
    fn a_condition_that_is_not_true_says_why() {
        let with = |status: &str, rest: Value| {
            let mut condition = json!({"type": "Ready", "status": status});
            condition.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({"conditions": [{"type": "TopicReady", "status": "False", "message": "no topic"}, condition]})
        };
        assert_eq!(reason(with("True", json!({}))), None);
        assert_eq!(reason(with("False", json!({"message": "no broker"}))).unwrap(), "no broker");
        assert_eq!(reason(with("Unknown", json!({}))).unwrap(), "no topic");
        let only = json!({"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Waits"}]});
        assert_eq!(reason(only).unwrap(), "Waits");
        for silent in [json!({}), json!({"conditions": []}), json!(null)] {
            assert_eq!(reason(silent).unwrap(), "its controller has not said anything yet; is it installed?");
        }
    }

    #[test]
    fn a_status_of_an_older_generation_is_not_believed() {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let status = |seen: i64| json!({"observedGeneration": seen, "conditions": conditions});
        assert_eq!(reason(status(2)), None);
        assert_eq!(reason(status(1)).unwrap(), "its controller has not seen the last change yet");
    }
}

//! Tokens of applications, and the operator's.

use super::*;
use crate::error::ErrorKind;

on_each_store!(a_token_grants_its_scopes_until_it_is_revoked);
async fn a_token_grants_its_scopes_until_it_is_revoked(database: Database) {
    let registry = fixture(database).await;
    let scopes = [Scope::Command, Scope::Registry];
    let (token, secret) = registry.create_token(&app("a"), scopes.into(), "for ci".to_owned()).await.unwrap();
    let grant = Grant::Application { app: app("a"), scopes: scopes.into() };
    for _ in 0..2 {
        assert_eq!(registry.grant(&secret).await, Ok(grant.clone()));
    }
    let (other, _) = registry.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    assert_eq!(registry.tokens(&app("a")).await, Ok(vec![token.clone(), other]));
    registry.put_application(&app("b"), ApplicationSpec::default()).await.unwrap();
    assert_eq!(registry.delete_token(&app("b"), &token.id).await, Err(RegistryError::NoToken));
    assert_eq!(
        registry.delete_token(&app("c"), &token.id).await,
        Err(RegistryError::NoApplication(app("c")))
    );
    assert_eq!(registry.grant(&secret).await, Ok(grant));
    registry.delete_token(&app("a"), &token.id).await.unwrap();
    assert_eq!(registry.grant(&secret).await, Err(AuthError::Denied));
    assert_eq!(registry.delete_token(&app("a"), &token.id).await, Err(RegistryError::NoToken));
}

on_each_store!(what_is_no_token_of_an_application_is_refused);
async fn what_is_no_token_of_an_application_is_refused(database: Database) {
    let registry = fixture(database).await;
    let device = registry.put_device(&key("a/d"), new_token()).await.unwrap().tokens.remove(0);
    for bad in [Secret::new(""), Secret::new("x"), generate_token().unwrap(), device] {
        assert_eq!(registry.grant(&bad).await, Err(AuthError::Denied));
    }
}

on_each_store!(tokens_have_limits);
async fn tokens_have_limits(database: Database) {
    let registry = fixture(database).await;
    let create = async |scopes: &[Scope], description: &str| {
        let scopes = scopes.iter().copied().collect();
        registry.create_token(&app("a"), scopes, description.to_owned()).await.map(drop)
    };
    assert_eq!(create(&[], "").await, Err(InvalidSpec::NoScopes.into()));
    assert_eq!(create(&[Scope::Events], &"x".repeat(257)).await, Err(InvalidSpec::Description(257).into()));
    assert_eq!(create(&[Scope::Events], "a\0b").await, Err(InvalidSpec::DescriptionNul.into()));
    for _ in 0..MAX_TOKENS {
        create(&[Scope::Events], "").await.unwrap();
    }
    assert_eq!(create(&[Scope::Events], "").await.unwrap_err().kind(), ErrorKind::Conflict);
    let nowhere = registry.create_token(&app("b"), [Scope::Events].into(), String::new()).await;
    assert_eq!(nowhere, Err(RegistryError::NoApplication(app("b"))));
}

on_each_store!(the_operator_is_who_bears_the_operators_token);
async fn the_operator_is_who_bears_the_operators_token(database: Database) {
    let token = "0123456789abcdef0123456789abcdef";
    let registry =
        fixture_with(database, RegistrySettings { admin_token: Some(Secret::new(token)), ..settings() })
            .await;
    assert_eq!(registry.grant(&Secret::new(token)).await, Ok(Grant::Operator));
    for bad in ["0123456789abcdef0123456789abcdeF", "0123456789abcdef0123456789abcde", ""] {
        assert_eq!(registry.grant(&Secret::new(bad)).await, Err(AuthError::Denied));
    }
    let without = registry.database.open(settings()).await;
    assert_eq!(without.grant(&Secret::new(token)).await, Err(AuthError::Denied));
    let bytes = registry.database.contents().await;
    assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()));
}

#[tokio::test]
async fn an_operators_token_that_is_too_short_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let url = sqlite_url(&directory.path().join("registry.sqlite"));
    let short = RegistrySettings { admin_token: Some(Secret::new("x".repeat(31))), ..settings() };
    let error = Registry::open(&url, short).await.unwrap_err();
    assert_eq!(error.to_string(), "the operator's token must have 32 characters or more, this one has 31");
}

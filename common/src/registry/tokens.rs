//! Tokens of applications, and the operator's.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use sqlx::Row;
use sqlx::any::AnyRow;
use subtle::ConstantTimeEq;

use super::applications::require;
use super::cache::{Cache, Tag};
use super::error::RegistryError;
use super::model::{Grant, Scope, Token, TokenId};
use super::spec::{InvalidSpec, MAX_DESCRIPTION};
use super::token::{self, Digest};
use super::{Registry, Shared, store};
use crate::auth::{AuthError, Secret};
use crate::id::AppId;
use crate::time::Timestamp;

/// The most tokens of an application.
pub const MAX_TOKENS: usize = 1_000;

/// The operator's token, of which only a keyed hash is in memory.
pub(super) struct Operator([u8; 32]);

impl Operator {
    pub(super) fn new(cache: &Cache, token: &Secret) -> Self {
        Self(cache.bearer_tag(token).into_bytes())
    }

    fn is(&self, bearer: &Tag) -> bool {
        self.0.ct_eq(&bearer.into_bytes()).into()
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operator")
    }
}

impl Registry {
    /// Makes a token of an application. The secret is shown this once.
    ///
    /// # Errors
    /// Fails without scopes, with too long a description or one with U+0000, if there is no such application, or if it has as many
    /// tokens as it may have.
    pub async fn create_token(
        &self,
        app: &AppId,
        scopes: BTreeSet<Scope>,
        description: String,
    ) -> Result<(Token, Secret), RegistryError> {
        if scopes.is_empty() {
            return Err(InvalidSpec::NoScopes.into());
        }
        if description.len() > MAX_DESCRIPTION {
            return Err(InvalidSpec::Description(description.len()).into());
        }
        if description.contains('\0') {
            return Err(InvalidSpec::DescriptionNul.into());
        }
        let created = self.shared.settings.clock.wall();
        let token = Token { id: TokenId::new(created), scopes, description, created };
        let app = app.clone();
        self.at_home(|shared| async move { shared.create_token(&app, token).await }).await
    }

    /// Returns the tokens of an application, the oldest first.
    ///
    /// # Errors
    /// Fails if there is no such application.
    pub async fn tokens(&self, app: &AppId) -> Result<Vec<Token>, RegistryError> {
        let app = app.clone();
        self.at_home(|shared| async move {
            let mut connection = shared.store.pool().acquire().await?;
            require(&mut connection, &app).await?;
            let statement =
                "SELECT id, scopes, description, created FROM tokens WHERE application = $1 ORDER BY id";
            let rows = sqlx::query(statement).bind(app.as_str()).fetch_all(&mut *connection).await?;
            rows.iter().map(shown).collect()
        })
        .await
    }

    /// Revokes a token: here at once, in other processes within 2 s.
    ///
    /// # Errors
    /// Fails if the application has no token of this id.
    pub async fn delete_token(&self, app: &AppId, id: &TokenId) -> Result<(), RegistryError> {
        let (app, id) = (app.clone(), id.clone());
        self.at_home(|shared| async move {
            let mut write = shared.store.write().await?;
            let deleted = sqlx::query("DELETE FROM tokens WHERE application = $1 AND id = $2")
                .bind(app.as_str())
                .bind(id.as_str())
                .execute(write.connection())
                .await?;
            if deleted.rows_affected() == 0 {
                require(write.connection(), &app).await?;
                return Err(RegistryError::NoToken);
            }
            write.commit().await?;
            shared.cache.forget_tokens();
            Ok(())
        })
        .await
    }

    /// Tells what the bearer of a token may do.
    ///
    /// # Errors
    /// Fails closed: whatever is not known to be a token is refused.
    pub async fn grant(&self, bearer: &Secret) -> Result<Grant, AuthError> {
        let tag = self.shared.cache.bearer_tag(bearer);
        if self.shared.operator.as_ref().is_some_and(|operator| operator.is(&tag)) {
            return Ok(Grant::Operator);
        }
        if !token::is_token(bearer) {
            return Err(AuthError::Denied);
        }
        if let Some(grant) = self.shared.cache.grant(&tag) {
            return Ok(grant);
        }
        let digest = Digest::of(bearer);
        let found = self.at_home(|shared| async move { shared.look_up_grant(tag, digest).await });
        found.await.map_err(|_| AuthError::Unavailable)?.ok_or(AuthError::Denied)
    }
}

impl Shared {
    async fn create_token(
        self: &Arc<Self>,
        app: &AppId,
        token: Token,
    ) -> Result<(Token, Secret), RegistryError> {
        let secret = token::generate()?;
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let mut write = self.store.write().await?;
        require(write.connection(), app).await?;
        let row = sqlx::query("SELECT COUNT(*) FROM tokens WHERE application = $1")
            .bind(app.as_str())
            .fetch_one(write.connection())
            .await?;
        if row.try_get::<i64, _>(0)? >= MAX_TOKENS as i64 {
            return Err(RegistryError::TooManyTokens(MAX_TOKENS));
        }
        let insert = "INSERT INTO tokens (id, application, digest, scopes, description, created) \
             VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(insert)
            .bind(token.id.as_str())
            .bind(app.as_str())
            .bind(Digest::of(&secret).as_str())
            .bind(scopes.join(" "))
            .bind(token.description.as_str())
            .bind(token.created.as_millis())
            .execute(write.connection())
            .await?;
        write.commit().await?;
        Ok((token, secret))
    }

    async fn look_up_grant(&self, tag: Tag, digest: Digest) -> Result<Option<Grant>, RegistryError> {
        let began = self.cache.token_epoch();
        let row = sqlx::query("SELECT application, scopes FROM tokens WHERE digest = $1")
            .bind(digest.as_str())
            .fetch_optional(self.store.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let grant =
            Grant::Application { app: store::parse(row.try_get(0)?)?, scopes: scopes(row.try_get(1)?)? };
        self.cache.remember_grant(tag, grant.clone(), began);
        Ok(Some(grant))
    }
}

fn shown(row: &AnyRow) -> Result<Token, RegistryError> {
    Ok(Token {
        id: store::parse(row.try_get(0)?)?,
        scopes: scopes(row.try_get(1)?)?,
        description: row.try_get(2)?,
        created: Timestamp::from_millis(row.try_get(3)?),
    })
}

fn scopes(text: &str) -> Result<BTreeSet<Scope>, RegistryError> {
    text.split_ascii_whitespace().map(store::parse).collect()
}

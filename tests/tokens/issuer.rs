//! Keys that an issuer publishes at a URL, and changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{SIGNATURE, TABLE, UNKNOWN_KID, claims, good, notes};
use crate::support::{Client, Database, Server, Version};

pub(super) struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    pub(super) fn generate(algorithm: Algorithm) -> Self {
        let key = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
                let der = STANDARD.encode(pair.as_der().expect("DER").as_ref());
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
                EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a key")
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
                EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("PKCS 8").as_ref())
            }
            _ => {
                let pair = Ed25519KeyPair::generate().expect("a key");
                EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("PKCS 8").as_ref())
            }
        };
        Self { algorithm, key }
    }

    pub(super) fn public(&self, kid: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public half");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(kid);
        jwk
    }

    pub(super) fn sign(&self, kid: &str) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(kid.to_owned());
        encode(&header, &claims(|_| {}), &self.key).expect("signed")
    }
}

/// An issuer's key set, and how often it was asked for.
#[derive(Clone, Default)]
pub(super) struct Issuer {
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    pub(super) async fn serve(&self) -> String {
        let issuer = self.clone();
        let answer = move || {
            issuer.asked.fetch_add(1, Ordering::SeqCst);
            let keys = issuer.keys.lock().expect("keys").clone();
            async move { axum::Json(json!({ "keys": keys })) }
        };
        let app = axum::Router::new().route("/jwks.json", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("a port"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    pub(super) fn publish(&self, keys: &[Value]) {
        *self.keys.lock().expect("keys") = keys.to_vec();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_are_fetched_and_rotate() {
    let db = Database::new().await;
    db.execute(TABLE).await;
    let issuer = Issuer::default();
    let url = issuer.serve().await;
    let server = Server::start_with(&db, |config| {
        config.auth.jwks_url = url;
        config.auth.jwks_min_interval = Duration::ZERO;
    })
    .await;
    let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let old = algorithms.map(SigningKey::generate);
    let kid = |key: &SigningKey, generation: u32| format!("{:?}-{generation}", key.algorithm);
    issuer.publish(&old.each_ref().map(|key| key.public(&kid(key, 1))));
    let mut clients = Vec::new();
    for key in &old {
        let mut client = Client::connect(&server, Version::V2, &key.sign(&kid(key, 1))).await;
        client.subscribe("room", notes()).await;
        clients.push(client);
    }
    assert_eq!(
        issuer.asked.load(Ordering::SeqCst),
        1,
        "known keys are not asked for again"
    );

    let new = algorithms.map(SigningKey::generate);
    issuer.publish(&new.each_ref().map(|key| key.public(&kid(key, 2))));
    for (key, client) in new.iter().zip(&mut clients) {
        client
            .push(
                "room",
                "access_token",
                json!({"access_token": key.sign(&kid(key, 2))}),
            )
            .await;
        assert_eq!(client.system("room").await["message"], "Subscribed to PostgreSQL");
    }
    db.execute("insert into notes values (1)").await;
    for client in &mut clients {
        assert_eq!(client.data().await["record"]["id"], 1);
    }
    // Withdrawn, another's signature under a known name, and a name nobody has.
    let server_says = async |token: &str| {
        let (status, body) = server
            .handshake(&format!("/socket/websocket?apikey={token}"), &[])
            .await;
        (
            status,
            serde_json::from_str::<Value>(&body).expect("JSON")["error"].clone(),
        )
    };
    let signer = |kid: &str| {
        json!(format!(
            "Failed to generate JWT signer for key ID (kid) \"{kid}\", check your JWT secret or JWKS configuration"
        ))
    };
    for (old, new) in old.iter().zip(&new) {
        let (withdrawn, known) = (kid(old, 1), kid(new, 2));
        assert_eq!(
            server_says(&old.sign(&withdrawn)).await,
            (401, signer(&withdrawn))
        );
        assert_eq!(server_says(&old.sign(&known)).await, (401, json!(SIGNATURE.1)));
        assert_eq!(server_says(&new.sign("k9")).await, (401, json!(UNKNOWN_KID.1)));
    }
    // The shared secret goes on working beside them.
    assert_eq!(
        server
            .handshake(&format!("/socket/websocket?apikey={}", good()), &[])
            .await
            .0,
        101
    );
    server.stop().await;
}

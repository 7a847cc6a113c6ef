use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::mint;

const SECRET: &str = "a secret that is long enough for a test";

fn with_secrets(secrets: &[&str]) -> Verifier {
    Verifier::new(Settings {
        secrets: secrets.iter().copied().map(Secret::new).collect(),
        ..Settings::default()
    })
    .unwrap()
}

fn with_jwks(keys: &[Value]) -> Verifier {
    Verifier::new(Settings {
        secrets: vec![Secret::new(SECRET)],
        jwks: Some(Secret::new(json!({ "keys": keys }).to_string())),
        ..Settings::default()
    })
    .unwrap()
}

fn claims() -> Value {
    json!({"role": "authenticated", "sub": "u1", "exp": now() + 3600})
}

fn token(secret: &str, claims: &Value) -> String {
    mint(&Secret::new(secret), claims).unwrap()
}

/// A token with any header and a signature that nobody made.
fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    format!(
        "{}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

struct SigningKey {
    algorithm: Algorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    fn generate(algorithm: Algorithm) -> Self {
        let encoding = match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let der = base64::engine::general_purpose::STANDARD.encode(pair.as_der().unwrap().as_ref());
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
            Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => {
                let pair = Ed25519KeyPair::generate().unwrap();
                EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref())
            }
        };
        Self { algorithm, encoding }
    }

    fn jwk(&self, kid: &str) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk
    }

    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        encode(&header, claims, &self.encoding).unwrap()
    }
}

fn ec(algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm) -> EncodingKey {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
}

#[tokio::test]
async fn hmac_with_the_current_or_the_next_secret() {
    let verifier = with_secrets(&[SECRET, "the next one"]);
    for secret in [SECRET, "the next one"] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let token = encode(&Header::new(algorithm), &claims(), &key).unwrap();
            let claims = verifier.verify(&token).await.unwrap();
            assert_eq!(
                (&*claims.role, claims.sub.as_deref()),
                ("authenticated", Some("u1"))
            );
        }
    }
    let foreign = token("another", &claims());
    assert_eq!(verifier.verify(&foreign).await, Err(TokenError::Signature));
}

#[tokio::test]
async fn whitespace_and_percent_encoding_do_not_matter() {
    let verifier = with_secrets(&[SECRET]);
    let token = token(SECRET, &claims());
    let odd = format!(" {}\n", token.replace('.', "%2E\t"));
    assert!(verifier.verify(&odd).await.is_ok());
    assert_eq!(verifier.verify(" \n").await, Err(TokenError::Missing));
}

#[tokio::test]
async fn asymmetric_keys_by_their_kid() {
    for algorithm in [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ] {
        let key = SigningKey::generate(algorithm);
        let verifier = with_jwks(&[key.jwk("k1")]);
        let good = key.sign(Some("k1"), &claims());
        assert!(verifier.verify(&good).await.is_ok(), "{algorithm:?}");

        let other = SigningKey::generate(algorithm).sign(Some("k1"), &claims());
        assert_eq!(verifier.verify(&other).await, Err(TokenError::Signature));
        let unnamed = key.sign(None, &claims());
        assert_eq!(
            verifier.verify(&unnamed).await,
            Err(TokenError::Signer { kid: None })
        );
        let unknown = key.sign(Some("k2"), &claims());
        let expected = TokenError::Signer {
            kid: Some("k2".into()),
        };
        assert_eq!(verifier.verify(&unknown).await, Err(expected));
    }
}

#[tokio::test]
async fn a_symmetric_key_by_its_kid_else_the_secret() {
    let jwk = json!({"kty": "oct", "kid": "k1", "k": URL_SAFE_NO_PAD.encode("other secret")});
    let verifier = with_jwks(&[jwk]);
    let sign = |kid: &str, secret: &str| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.to_owned());
        encode(&header, &claims(), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    assert!(verifier.verify(&sign("k1", "other secret")).await.is_ok());
    assert!(verifier.verify(&sign("k2", SECRET)).await.is_ok());
    assert_eq!(
        verifier.verify(&sign("k1", SECRET)).await,
        Err(TokenError::Signature)
    );
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    let key = SigningKey::generate(Algorithm::RS256);
    let jwk = key.jwk("k1");
    let verifier = with_jwks(std::slice::from_ref(&jwk));
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".into());
    let modulus = jwk["n"].as_str().unwrap();
    for forged in [
        modulus.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(modulus).unwrap(),
    ] {
        let token = encode(&header, &claims(), &EncodingKey::from_secret(&forged)).unwrap();
        assert_eq!(verifier.verify(&token).await, Err(TokenError::Signature));
    }
}

#[tokio::test]
async fn unsigned_and_unknown_algorithms_are_refused() {
    let verifier = with_secrets(&[SECRET]);
    let signature = "c2lnbmF0dXJl";
    for alg in ["none", "None", "HS1", "ES512", "Ed448", "PS256", ""] {
        for signature in ["", signature] {
            let token = unsigned(&json!({"alg": alg, "kid": "k"}), &claims(), signature);
            assert_eq!(
                verifier.verify(&token).await,
                Err(TokenError::Signer { kid: None }),
                "{alg}"
            );
        }
    }
    let critical = unsigned(&json!({"alg": "HS256", "crit": ["b64"]}), &claims(), signature);
    assert_eq!(
        verifier.verify(&critical).await,
        Err(TokenError::Signer { kid: None })
    );
}

#[tokio::test]
async fn expired_truncated_changed_unicode_and_huge() {
    let verifier = with_secrets(&[SECRET]);
    let expired = token(SECRET, &json!({"role": "anon", "exp": now() - 60}));
    let error = verifier.verify(&expired).await.unwrap_err();
    assert!(
        matches!(error, TokenError::Expired { seconds_ago: 60..=90 }),
        "{error}"
    );
    assert_eq!(error.connect_text(), "Token has expired");

    let good = token(SECRET, &claims());
    for cut in 0..good.len() {
        assert!(verifier.verify(&good[..cut]).await.is_err());
    }
    let changed = good.replacen("eyJ", "eyj", 1);
    assert!(verifier.verify(&changed).await.is_err());
    assert_eq!(
        verifier.verify("ключ.ключ.ключ").await,
        Err(TokenError::Malformed)
    );
    let huge = token(SECRET, &json!({"role": "a".repeat(5_000_000), "exp": now() + 60}));
    assert_eq!(verifier.verify(&huge).await, Err(TokenError::Malformed));
    let missing = token(SECRET, &json!({"exp": now() + 60}));
    assert_eq!(verifier.verify(&missing).await, Err(TokenError::MissingClaims));
}

#[tokio::test]
async fn secrets_and_key_sets_count_together() {
    let (text, file) = (
        SigningKey::generate(Algorithm::ES256),
        SigningKey::generate(Algorithm::EdDSA),
    );
    let document = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(document.path(), json!({"keys": [file.jwk("file")]}).to_string()).unwrap();
    let verifier = Verifier::new(Settings {
        secrets: [SECRET, "the next one"].into_iter().map(Secret::new).collect(),
        jwks: Some(Secret::new(json!({"keys": [text.jwk("text")]}).to_string())),
        jwks_file: Some(document.path().to_owned()),
        ..Settings::default()
    })
    .unwrap();
    for good in [
        token(SECRET, &claims()),
        token("the next one", &claims()),
        text.sign(Some("text"), &claims()),
        file.sign(Some("file"), &claims()),
    ] {
        assert!(verifier.verify(&good).await.is_ok(), "{good}");
    }
    let swapped = text.sign(Some("file"), &claims());
    assert!(verifier.verify(&swapped).await.is_err());
    assert!(verifier.verify(&token("a third", &claims())).await.is_err());
}

#[tokio::test]
async fn a_listed_api_key_is_as_good_as_a_token_of_its_role() {
    let keys = [("sb_publishable_1", "anon"), ("sb_secret_1", "service_role")];
    let verifier = Verifier::new(Settings {
        secrets: vec![Secret::new(SECRET)],
        issuer: Some("us".to_owned()),
        api_keys: keys
            .map(|(key, role)| (Secret::new(key), role.to_owned()))
            .to_vec(),
        ..Settings::default()
    })
    .unwrap();
    for (key, role) in keys {
        let claims = verifier.verify(key).await.unwrap();
        assert_eq!((&*claims.role, &claims.sub), (role, &None));
        assert_eq!(&*claims.json, json!({ "role": role }).to_string());
        assert!(claims.exp > now() + 9 * 365 * 24 * 3600);
    }
    for unknown in [
        "sb_",
        "sb_secret_",
        "sb_secret_2",
        "sb_secret_11",
        "SB_secret_1",
        "sb_a.b.c",
    ] {
        assert_eq!(
            verifier.verify(unknown).await,
            Err(TokenError::Malformed),
            "{unknown}"
        );
    }
    let unissued = token(SECRET, &claims());
    let expected = TokenError::ClaimRejected {
        claim: "iss".to_owned(),
    };
    assert_eq!(verifier.verify(&unissued).await, Err(expected));
}

#[test]
fn needs_a_key() {
    let empty = Settings {
        secrets: vec![Secret::default()],
        ..Settings::default()
    };
    assert!(matches!(Verifier::new(empty), Err(KeyError::NoKeys)));
    let settings = Settings {
        jwks_file: Some("/nonexistent/jwks.json".into()),
        ..Settings::default()
    };
    let error = Verifier::new(settings).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/jwks.json"), "{error}");
}

#[tokio::test]
async fn a_key_file_is_read_again_for_an_unknown_key() {
    let (old, new) = (
        SigningKey::generate(Algorithm::ES256),
        SigningKey::generate(Algorithm::ES256),
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": [old.jwk("old")]}).to_string()).unwrap();
    let verifier = Verifier::new(Settings {
        jwks_file: Some(file.path().to_owned()),
        jwks_min_interval: Duration::ZERO,
        ..Settings::default()
    })
    .unwrap();
    assert!(verifier.verify(&old.sign(Some("old"), &claims())).await.is_ok());

    std::fs::write(file.path(), "half a docum").unwrap();
    let token = new.sign(Some("new"), &claims());
    assert!(verifier.verify(&token).await.is_err());
    let before = old.sign(Some("old"), &claims());
    assert!(verifier.verify(&before).await.is_ok(), "the old set stays");

    std::fs::write(file.path(), json!({"keys": [new.jwk("new")]}).to_string()).unwrap();
    assert!(verifier.verify(&token).await.is_ok());
}

/// Serves a key set and counts how often it was asked for.
async fn key_server(document: String) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let handler = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let document = document.clone();
        async move { document }
    };
    let app = axum::Router::new().route("/jwks.json", axum::routing::get(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

#[tokio::test]
async fn a_key_url_is_asked_once_however_many_unknown_keys_are_named() {
    let key = SigningKey::generate(Algorithm::EdDSA);
    let (url, asked) = key_server(json!({"keys": [key.jwk("k1")]}).to_string()).await;
    let verifier = Verifier::new(Settings {
        jwks_url: Some(url),
        jwks_min_interval: Duration::from_secs(3600),
        ..Settings::default()
    })
    .unwrap();
    let good = key.sign(Some("k1"), &claims());
    let (first, second) = tokio::join!(verifier.verify(&good), verifier.verify(&good));
    assert!(first.is_ok() && second.is_ok());
    for kid in ["x", "y", "z"] {
        assert!(verifier.verify(&key.sign(Some(kid), &claims())).await.is_err());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_key_url_that_does_not_answer_refuses_the_token_only() {
    let key = SigningKey::generate(Algorithm::EdDSA);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let verifier = Verifier::new(Settings {
        secrets: vec![Secret::new(SECRET)],
        jwks_url: Some(silent),
        jwks_timeout: Duration::from_millis(50),
        ..Settings::default()
    })
    .unwrap();
    let unknown = verifier.verify(&key.sign(Some("k1"), &claims())).await;
    let expected = TokenError::Signer {
        kid: Some("k1".into()),
    };
    assert_eq!(unknown, Err(expected));
    assert!(verifier.verify(&token(SECRET, &claims())).await.is_ok());
}

proptest! {
    #[test]
    fn no_text_is_a_token_by_accident(text in "\\PC{0,200}", payload in "\\PC{0,60}", signature in "[A-Za-z0-9_-]{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let verifier = with_secrets(&[SECRET]);
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let nearly = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(payload));
        prop_assert!(runtime.block_on(verifier.verify(&text)).is_err());
        prop_assert!(runtime.block_on(verifier.verify(&nearly)).is_err());
    }
}

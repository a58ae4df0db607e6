//! A [Standard Webhooks](https://www.standardwebhooks.com) signature beside Momento's, for receivers that know only that.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::HeaderName;
use sha2::Sha256;

use crate::delivery::Post;
use crate::event::EventId;

/// Adds `webhook-id`, `webhook-timestamp` and `webhook-signature`. The key is the signing secret: decoded where it has the
/// form `whsec_…`, its UTF-8 bytes otherwise. `now` in epoch milliseconds.
pub(crate) fn sign(post: &mut Post, id: EventId, key: &str, now: u64) {
    let (id, timestamp) = (id.to_string(), (now / 1_000).to_string());
    let signature = signature(key, &id, &timestamp, &post.body);
    post.header(HeaderName::from_static("webhook-id"), &id);
    post.header(HeaderName::from_static("webhook-timestamp"), &timestamp);
    post.header(HeaderName::from_static("webhook-signature"), &signature);
}

fn signature(key: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let decoded = key.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(decoded.as_deref().unwrap_or(key.as_bytes()))
        .expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_known_answer_is_signed() {
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

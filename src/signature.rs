//! Who sent this body? The HMAC that a sender puts into the `momento-signature` header.
//!
//! The scheme is Momento's: lowercase hex of HMAC-**SHA3-256** over the raw body, keyed with the UTF-8 bytes of the
//! signing secret. [`sign`] and [`verify`] share this one file, so that sender and receiver cannot drift apart.

mod sha3;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha3::Sha3_256;

/// The header that carries the signature.
pub const HEADER: &str = "momento-signature";

/// A signing secret, as the state of a hash that has been keyed with it: keying takes as long as hashing a small body.
/// Never printed: `Debug` is redacted.
#[derive(Clone)]
pub struct Secret(Hmac<Sha3_256>);

/// The signing secret is empty, and whoever knows that can sign.
#[derive(Debug, thiserror::Error)]
#[error("the signing secret is empty; store the secret of the webhook as it is")]
pub struct EmptySecret;

impl Secret {
    /// Takes the secret as it is, white space and all, for that is how Momento keys its HMAC.
    ///
    /// # Errors
    /// [`EmptySecret`], since an empty key would let anyone sign.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, EmptySecret> {
        let secret = secret.as_ref();
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        Hmac::new_from_slice(secret).map(Self).map_err(|_| EmptySecret) // it takes a key of any other length
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha3_256> {
        let mut mac = self.0.clone();
        mac.update(body);
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A signature as it came in the header: 64 hex digits, in either case. Never printed, since it opens the door.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads the header's value; anything but 64 hex digits is `None`.
    pub fn from_hex(value: impl AsRef<[u8]>) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(value, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(redacted)")
    }
}

/// A body whose sender has proved that it knows the secret. [`verify`] makes it; the one other way is out of the parking
/// queue. Whatever takes a `Verified` cannot be handed anything else.
#[derive(Clone, Copy)]
pub struct Verified<'a>(&'a [u8]);

impl<'a> Verified<'a> {
    /// A body that the handler had verified before it parked it: nobody else may write to that queue.
    #[cfg(feature = "redrive")]
    pub(crate) fn from_parking_queue(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The bytes that were signed.
    pub fn body(&self) -> &'a [u8] {
        self.0
    }
}

/// Signs a body for sending.
///
/// ```
/// use momento_webhook::signature::{Secret, sign};
///
/// let secret = Secret::new("1234567890")?;
/// let body = br#"{"text":"some text", "another_field": "another field" }"#;
/// assert_eq!(sign(&secret, body), "b43f72787eb66410ff110295b036ef828e5686af21b414ce092f02c05deea3da");
/// # Ok::<(), momento_webhook::signature::EmptySecret>(())
/// ```
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    hex::encode(secret.mac(body).finalize().into_bytes())
}

/// Checks a body against its signature, in time that does not depend on where they differ.
///
/// `None` means that whoever sent this does not know the secret, or that the body is not the one that was signed.
pub fn verify<'a>(secret: &Secret, signature: &Signature, body: &'a [u8]) -> Option<Verified<'a>> {
    secret.mac(body).verify_slice(&signature.0).ok()?;
    Some(Verified(body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Measured against Momento's own service.
    const SECRET: &str = "1234567890";
    const BODY: &[u8] = br#"{"text":"some text", "another_field": "another field" }"#;
    const SIGNATURE: &str = "b43f72787eb66410ff110295b036ef828e5686af21b414ce092f02c05deea3da";

    fn check(signature: &str, body: &[u8]) -> bool {
        let secret = Secret::new(SECRET).unwrap();
        Signature::from_hex(signature).is_some_and(|signature| verify(&secret, &signature, body).is_some())
    }

    #[test]
    fn the_known_answer_is_signed_and_verified() {
        assert_eq!(sign(&Secret::new(SECRET).unwrap(), BODY), SIGNATURE);
        assert!(check(SIGNATURE, BODY));
    }

    #[test]
    fn upper_case_hex_is_the_same_signature() {
        assert!(check(&SIGNATURE.to_uppercase(), BODY));
    }

    #[test]
    fn one_altered_byte_of_the_body_is_refused() {
        for at in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[at] ^= 1;
            assert!(!check(SIGNATURE, &body), "byte {at}");
        }
    }

    #[test]
    fn one_altered_digit_of_the_signature_is_refused() {
        for at in 0..SIGNATURE.len() {
            let mut signature = SIGNATURE.as_bytes().to_vec();
            signature[at] = if signature[at] == b'0' { b'1' } else { b'0' };
            assert!(!check(std::str::from_utf8(&signature).unwrap(), BODY), "digit {at}");
        }
    }

    #[test]
    fn anything_but_64_hex_digits_is_no_signature() {
        for value in
            ["", "b4", &SIGNATURE[..63], &format!("{SIGNATURE}0"), &format!("{SIGNATURE},{SIGNATURE}"), &"g".repeat(64)]
        {
            assert!(Signature::from_hex(value).is_none(), "{value}");
        }
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert!(Secret::new("").is_err());
    }

    #[test]
    fn neither_secret_nor_signature_is_printed() {
        let secret = Secret::new(SECRET).unwrap();
        let signature = Signature::from_hex(SIGNATURE).unwrap();
        let printed = format!("{secret:?} {signature:?}");
        assert!(!printed.contains(SECRET) && !printed.contains("b43f"), "{printed}");
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_only_with_the_same_secret(
            secret in ".+", other in ".+", body in proptest::collection::vec(any::<u8>(), 0..2048),
        ) {
            let signature = sign(&Secret::new(secret.clone()).unwrap(), &body);
            let signature = Signature::from_hex(signature).unwrap();
            prop_assert!(verify(&Secret::new(secret.clone()).unwrap(), &signature, &body).is_some());
            prop_assert_eq!(verify(&Secret::new(other.clone()).unwrap(), &signature, &body).is_some(), secret == other);
        }
    }
}

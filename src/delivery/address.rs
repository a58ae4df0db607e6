//! Where a delivery may go. A URL is chosen by an operator, but what its name resolves to is chosen by whoever runs the
//! name: so every resolution is filtered, not only the first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(feature = "relay")]
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

#[cfg(feature = "relay")]
use crate::config::is_loopback;

/// Which addresses may be connected to, beside public ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// This machine, and there without TLS too: for development.
    pub(crate) loopback: bool,
    /// Private networks (RFC 1918, RFC 6598, unique local). Link-local addresses, where clouds keep their metadata
    /// services, are never allowed.
    pub(crate) private: bool,
}

/// No address may be used.
#[derive(Debug, thiserror::Error)]
#[error("the name leads only to addresses that are not public; allow private networks or loopback if that is meant")]
pub(crate) struct Forbidden;

impl Reach {
    /// May this address be connected to?
    pub(crate) fn allows(self, address: IpAddr) -> bool {
        match embedded(address) {
            IpAddr::V4(ip) if ip.is_loopback() => self.loopback,
            IpAddr::V6(ip) if ip.is_loopback() => self.loopback,
            IpAddr::V4(ip) => is_public_v4(ip) || self.private && is_private_v4(ip),
            IpAddr::V6(ip) => is_public_v6(ip) || self.private && ip.is_unique_local(),
        }
    }

    /// Checks what a URL says by itself; a name is checked when it is resolved.
    ///
    /// # Errors
    /// What is wrong with it.
    #[cfg(feature = "relay")] // `local` has its own flags, and words for them
    pub(crate) fn check(self, url: &Url) -> Result<(), &'static str> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user name or a password; the signature is what proves the sender");
        }
        if is_loopback(host) && !self.loopback {
            return Err("it is on this machine: pass --allow-loopback if that is meant");
        }
        if literal.is_some_and(|address| !self.allows(address)) {
            return Err("its address is not public: allow private networks if that is meant");
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.loopback && is_loopback(host) => Ok(()),
            _ => Err("it must start with https://"),
        }
    }
}

/// The IPv4 address that an IPv6 address stands for (mapped, NAT64, 6to4), or the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(ip) = address else { return address };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || a == 100 && b & 0xc0 == 64
}

/// What IANA's registry of special addresses lists as not globally reachable is not public.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a >= 224 // multicast, reserved, broadcast
        || ip.is_loopback()
        || is_private_v4(ip)
        || ip.is_link_local()
        || ip.is_documentation()
        || [a, b, c] == [192, 0, 0]
        || [a, b, c] == [192, 88, 99]
        || a == 198 && b & 0xfe == 18)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    a & 0xe000 == 0x2000 // global unicast, without:
        && !(a == 0x2001 && b < 0x200) // protocol assignments, Teredo among them
        && !(a == 0x2001 && b == 0xdb8) // documentation
        && !(a == 0x3fff && b < 0x1000) // documentation
}

/// Resolves names, and keeps the addresses that may be used.
pub(super) struct Filter(pub(super) Reach);

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| reach.allows(address.ip())).collect();
            if allowed.is_empty() { Err(Forbidden.into()) } else { Ok(Box::new(allowed.into_iter()) as Addrs) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: Reach = Reach { loopback: false, private: false };
    const EVERYWHERE: Reach = Reach { loopback: true, private: true };

    #[test]
    fn only_public_addresses_are_reached() {
        for public in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1"]
        {
            assert!(NOWHERE.allows(public.parse().unwrap()), "{public}");
        }
        for never in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::7f00:1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "64:ff9b:1::1",
        ] {
            assert!(!EVERYWHERE.allows(never.parse().unwrap()), "{never}");
        }
    }

    #[test]
    fn private_networks_and_this_machine_take_a_word() {
        for private in
            ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
        {
            let private = private.parse().unwrap();
            assert!(!Reach { loopback: true, private: false }.allows(private), "{private}");
            assert!(Reach { loopback: false, private: true }.allows(private), "{private}");
        }
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            let loopback = loopback.parse().unwrap();
            assert!(!Reach { loopback: false, private: true }.allows(loopback), "{loopback}");
            assert!(Reach { loopback: true, private: false }.allows(loopback), "{loopback}");
        }
    }

    #[test]
    #[cfg(feature = "relay")]
    fn a_url_is_https_and_public_unless_told_otherwise() {
        let check = |reach: Reach, url: &str| reach.check(&url.parse().unwrap()).is_ok();
        assert!(check(NOWHERE, "https://example.com/hook"));
        for url in [
            "http://example.com",
            "https://localhost",
            "https://127.0.0.1",
            "https://[::1]",
            "https://[::ffff:7f00:1]",
            "https://10.0.0.1",
            "https://2130706433",
            "https://0x7f.1",
            "ftp://example.com",
            "https://me:secret@example.com",
        ] {
            assert!(!check(NOWHERE, url), "{url}");
        }
        assert!(check(EVERYWHERE, "http://127.0.0.1:9000/lambda-url/handler/"));
        assert!(check(EVERYWHERE, "http://[::1]:9000"));
        assert!(!check(EVERYWHERE, "http://10.0.0.1"), "beyond this machine it takes TLS");
    }

    #[tokio::test]
    async fn a_name_is_filtered_when_it_is_resolved() {
        let resolve =
            async |reach| Filter(reach).resolve("localhost".parse().unwrap()).await.map(|found| found.count());
        assert!(resolve(NOWHERE).await.is_err_and(|error| error.is::<Forbidden>()));
        assert!(resolve(EVERYWHERE).await.unwrap() > 0);
    }
}

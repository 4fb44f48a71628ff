//! The words of `tls-protocols`, `tls-ciphers` and `tls-ciphersuites`: those of OpenSSL, as far as they name something
//! that there is.

use rustls::CipherSuite;

use crate::Problem;

/// Which versions of the protocol are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocols {
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,
}

impl Protocols {
    /// Understands `tls-protocols`. The empty text means all.
    pub(crate) fn parse(text: &str) -> Result<Protocols, Problem> {
        let mut protocols = Protocols { tls12: false, tls13: false };
        for word in text.split_ascii_whitespace() {
            match word.to_ascii_lowercase().as_str() {
                "tlsv1.2" => protocols.tls12 = true,
                "tlsv1.3" => protocols.tls13 = true,
                "tlsv1" | "tlsv1.1" => {
                    return Err(Problem::new(format!(
                        "tls-protocols: {word} is not supported, since it is broken: use 'TLSv1.2' and 'TLSv1.3'."
                    )));
                }
                _ => {
                    return Err(Problem::new(format!(
                        "Invalid tls-protocols specified ('{word}'). Use a combination of 'TLSv1.2' and 'TLSv1.3'."
                    )));
                }
            }
        }
        match protocols {
            Protocols { tls12: false, tls13: false } => Ok(Protocols { tls12: true, tls13: true }),
            some => Ok(some),
        }
    }
}

/// A cipher suite of TLS 1.2, and every keyword of OpenSSL that means it among others.
struct Tls12 {
    name: &'static str,
    suite: CipherSuite,
    bits: u16,
    words: &'static [&'static str],
}

/// Keywords that mean all that there is here: none of it is weak.
const ALL: &[&str] = &["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "ECDH", "kECDHE", "kEECDH", "TLSv1.2"];

/// In the order of preference that is used without a list.
const TLS12: &[Tls12] = &[
    Tls12 {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        bits: 256,
        words: &["ECDSA", "aECDSA", "AES", "AESGCM", "AES256", "SHA384"],
    },
    Tls12 {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        bits: 256,
        words: &["aRSA", "AES", "AESGCM", "AES256", "SHA384"],
    },
    Tls12 {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        bits: 128,
        words: &["ECDSA", "aECDSA", "AES", "AESGCM", "AES128", "SHA256"],
    },
    Tls12 {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        bits: 128,
        words: &["aRSA", "AES", "AESGCM", "AES128", "SHA256"],
    },
    Tls12 {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        bits: 256,
        words: &["ECDSA", "aECDSA", "CHACHA20"],
    },
    Tls12 {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        bits: 256,
        words: &["aRSA", "CHACHA20"],
    },
];

/// The suites of TLS 1.3, in the order of preference that is used without a list.
const TLS13: &[(&str, CipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
];

/// Keywords of OpenSSL for what there is not: they may be excluded, as usual lists do.
const NONE: &[&str] = &[
    "3DES",
    "ADH",
    "AECDH",
    "AESCCM",
    "AESCCM8",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "ARIAGCM",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "CBC",
    "COMPLEMENTOFALL",
    "COMPLEMENTOFDEFAULT",
    "DES",
    "DH",
    "DHE",
    "DSS",
    "EDH",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "GOST89MAC",
    "GOST94",
    "IDEA",
    "LOW",
    "MD5",
    "MEDIUM",
    "NULL",
    "PSK",
    "RC2",
    "RC4",
    "RSA",
    "SEED",
    "SHA",
    "SHA1",
    "SRP",
    "SSLv2",
    "SSLv3",
    "TLSv1",
    "TLSv1.0",
    "aDH",
    "aDSS",
    "aECDH",
    "aGOST",
    "aGOST01",
    "aNULL",
    "aPSK",
    "aSRP",
    "eNULL",
    "kDH",
    "kDHE",
    "kDHEPSK",
    "kDHd",
    "kDHr",
    "kECDH",
    "kECDHEPSK",
    "kECDHe",
    "kECDHr",
    "kEDH",
    "kGOST",
    "kPSK",
    "kRSA",
    "kRSAPSK",
    "kSRP",
];

/// The names of all there is, for a refusal.
fn all_names() -> String {
    TLS12.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}

/// Understands `tls-ciphersuites`: names of TLS 1.3 suites between colons, the preferred first. The empty text means all.
pub(crate) fn parse_suites(text: &str) -> Result<Vec<CipherSuite>, Problem> {
    let mut suites = Vec::new();
    for name in text.split(':').map(str::trim).filter(|name| !name.is_empty()) {
        let Some((_, suite)) = TLS13.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = TLS13.iter().map(|(known, _)| *known).collect();
            return Err(Problem::new(format!(
                "Failed to configure ciphersuites: '{name}' is unknown or not supported; there are {}.",
                known.join(", ")
            )));
        };
        if !suites.contains(suite) {
            suites.push(*suite);
        }
    }
    if suites.is_empty() {
        suites = TLS13.iter().map(|(_, suite)| *suite).collect();
    }
    Ok(suites)
}

/// Understands `tls-ciphers`: a list of TLS 1.2 ciphers as OpenSSL writes it. The empty text means all.
pub(crate) fn parse_ciphers(text: &str) -> Result<Vec<CipherSuite>, Problem> {
    let mut chosen: Vec<&Tls12> = Vec::new();
    let mut barred: Vec<CipherSuite> = Vec::new();
    let mut terms = text.split([':', ',', ' ']).filter(|term| !term.is_empty()).peekable();
    if terms.peek().is_none() {
        chosen = TLS12.iter().collect();
    }
    for term in terms {
        if let Some(order) = term.strip_prefix('@') {
            match order {
                "STRENGTH" => chosen.sort_by_key(|row| std::cmp::Reverse(row.bits)),
                // What there is keeps to level 2.
                "SECLEVEL=0" | "SECLEVEL=1" | "SECLEVEL=2" => {}
                _ => return Err(unknown(term)),
            }
            continue;
        }
        let (operator, name) = match term.as_bytes()[0] {
            b'!' | b'-' | b'+' => term.split_at(1),
            _ => ("", term),
        };
        let meant = meaning(name).ok_or_else(|| unknown(name))?;
        if meant.is_empty() && operator.is_empty() {
            return Err(Problem::new(format!(
                "Failed to configure ciphers: '{name}' is not supported; there are {}.",
                all_names()
            )));
        }
        let is_meant = |row: &Tls12| meant.iter().any(|other| other.suite == row.suite);
        match operator {
            "" => {
                let new = meant.iter().copied().filter(|row| !barred.contains(&row.suite));
                let new: Vec<_> =
                    new.filter(|row| chosen.iter().all(|known| known.suite != row.suite)).collect();
                chosen.extend(new);
            }
            "+" => {
                let (last, first): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|row| is_meant(row));
                chosen = first;
                chosen.extend(last);
            }
            _ => {
                chosen.retain(|row| !is_meant(row));
                if operator == "!" {
                    barred.extend(meant.iter().map(|row| row.suite));
                }
            }
        }
    }
    if chosen.is_empty() {
        return Err(Problem::new(format!("Failed to configure ciphers: '{text}' leaves none.")));
    }
    Ok(chosen.iter().map(|row| row.suite).collect())
}

/// The ciphers that a name, a keyword, or several keywords with `+` between them mean; nothing if one is unknown.
fn meaning(name: &str) -> Option<Vec<&'static Tls12>> {
    if let Some(row) = TLS12.iter().find(|row| row.name == name) {
        return Some(vec![row]);
    }
    let mut meant: Vec<_> = TLS12.iter().collect();
    for word in name.split('+') {
        let is_known =
            ALL.contains(&word) || NONE.contains(&word) || TLS12.iter().any(|row| row.words.contains(&word));
        if !is_known {
            return None;
        }
        meant.retain(|row| ALL.contains(&word) || row.words.contains(&word));
    }
    Some(meant)
}

fn unknown(name: &str) -> Problem {
    Problem::new(format!(
        "Failed to configure ciphers: '{name}' is unknown or not supported; there are {}.",
        all_names()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_those_named() {
        for (text, tls12, tls13) in [
            ("", true, true),
            ("TLSv1.2 TLSv1.3", true, true),
            ("tlsv1.3", false, true),
            ("  TLSv1.2 ", true, false),
        ] {
            assert_eq!(Protocols::parse(text), Ok(Protocols { tls12, tls13 }), "{text}");
        }
        for (text, part) in [
            ("TLSv1.2 foo", "'foo'"),
            ("TLSv1.2,TLSv1.3", "'TLSv1.2,TLSv1.3'"),
            ("TLSv1.1 TLSv1.2", "TLSv1.1 is not supported"),
            ("TLSv1", "TLSv1 is not supported"),
        ] {
            let problem = Protocols::parse(text).unwrap_err().to_string();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    /// The names of what a list means.
    fn ciphers(text: &str) -> Vec<&'static str> {
        let suites = parse_ciphers(text).unwrap();
        let name = |suite: &CipherSuite| TLS12.iter().find(|row| row.suite == *suite).unwrap().name;
        suites.iter().map(name).collect()
    }

    #[test]
    fn lists_of_ciphers_are_read_as_openssl_reads_them() {
        assert_eq!(ciphers("").len(), 6);
        assert_eq!(ciphers("DEFAULT:!MEDIUM").len(), 6);
        assert_eq!(ciphers("HIGH:!aNULL:!kRSA:!MD5:!3DES"), ciphers(""));
        assert_eq!(
            ciphers("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(
            ciphers("ECDHE+aRSA+AESGCM"),
            ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]
        );
        assert_eq!(
            ciphers("CHACHA20 ALL")[..2],
            ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"]
        );
        assert_eq!(ciphers("ALL:+AES256:!CHACHA20:-AES128:AES128").len(), 4);
        assert_eq!(ciphers("AES128:AES256:@STRENGTH")[0], "ECDHE-ECDSA-AES256-GCM-SHA384");
        assert_eq!(ciphers("ALL:!ECDSA:!AES128:ECDSA").len(), 2, "what is barred does not come back");
        assert_eq!(ciphers("DEFAULT@SECLEVEL=2".replace('@', ":@").as_str()).len(), 6);
    }

    #[test]
    fn what_is_unknown_or_missing_is_named() {
        for (text, part) in [
            ("foo", "'foo' is unknown"),
            ("ALL:!foo", "'foo' is unknown"),
            (
                "ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256",
                "'DHE-RSA-AES128-GCM-SHA256' is unknown",
            ),
            ("MEDIUM", "'MEDIUM' is not supported"),
            ("ECDHE+kRSA", "'ECDHE+kRSA' is not supported"),
            ("ALL:!ECDHE", "'ALL:!ECDHE' leaves none"),
            ("ALL:@SECLEVEL=5", "'@SECLEVEL=5' is unknown"),
            ("TLS_AES_128_GCM_SHA256", "'TLS_AES_128_GCM_SHA256' is unknown"),
            ("!", "'' is unknown"),
        ] {
            let problem = parse_ciphers(text).unwrap_err().to_string();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn suites_stand_in_the_order_of_the_list() {
        assert_eq!(parse_suites("").unwrap().len(), 3);
        assert_eq!(
            parse_suites("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256").unwrap(),
            [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384]
        );
        let problem = parse_suites("TLS_AES_128_CCM_SHA256").unwrap_err().to_string();
        assert!(problem.contains("'TLS_AES_128_CCM_SHA256'"), "{problem}");
    }
}

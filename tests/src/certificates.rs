//! Certificates for tests of security, made by openssl, valid from now on. Shell.

use std::path::Path;
use std::process::Command;

use crate::process::output;

/// Runs openssl in `dir` and gives what it printed.
///
/// # Errors
/// When it fails; with all that it said.
pub fn openssl(dir: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    output(Command::new("openssl").args(arguments).current_dir(dir))
}

/// Makes the roots `ca` and `stranger`, and certificates of `localhost`: `broker` and `client` of the
/// first root, `foreign` of the second, `expired` of the first. Each with its key is in `NAME.both`.
///
/// # Errors
/// When openssl fails.
pub fn make_certificates(dir: &Path) -> anyhow::Result<()> {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    for root in ["ca", "stranger"] {
        let (key, pem) = (format!("{root}.key"), format!("{root}.pem"));
        let subject = format!("/CN={root}");
        let rest = ["-keyout", &key, "-out", &pem, "-subj", &subject, "-days", "3650"];
        openssl(dir, &[&["req", "-x509"][..], &curve, &rest].concat())?;
    }
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
    for (name, root, days) in [
        ("broker", "ca", "365"),
        ("client", "ca", "365"),
        ("foreign", "stranger", "365"),
        ("expired", "ca", "-1"),
    ] {
        let file = |ending: &str| format!("{name}.{ending}");
        let (key, csr, crt) = (file("key"), file("csr"), file("crt"));
        let subject = format!("/O=Example/CN={name}");
        let request = ["-keyout", &key, "-out", &csr, "-subj", &subject];
        openssl(dir, &[&["req", "-new"][..], &curve, &request].concat())?;
        let (ca, ca_key) = (format!("{root}.pem"), format!("{root}.key"));
        let sign = ["x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key];
        let rest = ["-CAcreateserial", "-out", &crt, "-extfile", "names", "-days", days];
        openssl(dir, &[&sign[..], &rest].concat())?;
        let both = [std::fs::read(dir.join(&crt))?, std::fs::read(dir.join(&key))?].concat();
        std::fs::write(dir.join(file("both")), both)?;
    }
    Ok(())
}

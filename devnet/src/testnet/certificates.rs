//! Certificates for mutual TLS between a devnet's processes and its NATS servers.

use eyre::WrapErr;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// Signs the devnet's certificates. Its key is in no file: for a further machine a new set is written.
pub(super) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> eyre::Result<Self> {
        let key = KeyPair::generate().wrap_err("no key for certificates")?;
        let mut params =
            CertificateParams::new(Vec::<String>::new()).wrap_err("certificate authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "penstock devnet");
        let certificate = params.self_signed(&key).wrap_err("certificate authority")?;
        let issuer = Issuer::new(params, key);
        Ok(Self {
            certificate,
            issuer,
        })
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for a host name or address, good for both ends of a connection.
    pub(super) fn issue(&self, host: &str) -> eyre::Result<Issued> {
        let failed = || format!("certificate for {host}");
        let key = KeyPair::generate().wrap_err_with(failed)?;
        let mut params = CertificateParams::new(vec![host.to_owned()]).wrap_err_with(failed)?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).wrap_err_with(failed)?;
        Ok(Issued {
            pem: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

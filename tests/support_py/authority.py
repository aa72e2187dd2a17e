"""Certificates made for a test: an authority and what it signs. Needs the openssl program."""
import datetime
import hashlib
import pathlib
import subprocess


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True,
                          **more).stdout


class Authority:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        self.made = 0
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "30", "-subj", "/CN=Test Authority", "-keyout", self.key,
                "-out", self.certificate)

    def sign(self, *names, expired=False, key_type=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """One PEM file: key, certificate, authority."""
        self.made += 1
        stem = self.folder / f"{self.made}-{names[0]}"
        request, key, extensions = (stem.with_suffix(f".{kind}") for kind in ("csr", "key", "ext"))
        openssl("req", "-new", "-newkey", *key_type, "-nodes",
                "-subj", f"/CN={names[0]}", "-keyout", key, "-out", request)
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n")
        certificate = stem.with_suffix(".crt")
        if expired:
            (self.folder / "index").write_text("")
            (self.folder / "serial").write_text("1000\n")
            config = self.folder / "ca.cnf"
            config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index\n"
                              f"serial={self.folder}/serial\nnew_certs_dir={self.folder}\n"
                              "policy=p\ndefault_md=sha256\n[p]\ncommonName=supplied\n")
            now = datetime.datetime.utcnow()
            start, end = (now - datetime.timedelta(days=days) for days in (20, 2))
            openssl("ca", "-batch", "-config", config, "-cert", self.certificate, "-keyfile",
                    self.key, "-in", request, "-out", certificate, "-extfile", extensions,
                    "-startdate", start.strftime("%Y%m%d%H%M%SZ"), "-enddate",
                    end.strftime("%Y%m%d%H%M%SZ"), "-notext")
        else:
            openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                    "-CAcreateserial", "-days", "20", "-extfile", extensions, "-out", certificate)
        chain = stem.with_suffix(".pem")
        chain.write_bytes(key.read_bytes() + certificate.read_bytes() +
                          self.certificate.read_bytes())
        return chain


def key_digest(pem):
    """For "TLSA 3 1 1"."""
    public = openssl("x509", "-in", certificate_of(pem), "-noout", "-pubkey")
    der = openssl("pkey", "-pubin", "-outform", "DER", input=public)
    return hashlib.sha256(der).hexdigest()


def certificate_digest(pem):
    """For "TLSA 2 0 1"."""
    return hashlib.sha256(openssl("x509", "-in", pem, "-outform", "DER")).hexdigest()


def certificate_of(pem):
    crt = pathlib.Path(pem).with_suffix(".crt")
    return crt if crt.exists() else pem

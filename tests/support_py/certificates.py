"""Certificates made on the spot by the openssl program, and TLS clients that trust anything."""
import datetime
import hashlib
import os
import pathlib
import ssl
import subprocess

from support_py import smtp
from support_py.tools import tool


class Pair:
    """A certificate and its key, in files of their own."""

    def __init__(self, folder, name, names=("mx.us.example",), kind="EC", days=30):
        folder = pathlib.Path(folder)
        self.certificate = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        how = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "EC" else ["rsa:2048"]
        # faketime is not a package of ours: a certificate of the past is signed with its dates given.
        begin = ["-days", str(days)]
        subprocess.run(
            [tool("openssl"), "req", "-x509", "-nodes", "-newkey", *how, *begin,
             "-subj", f"/CN={names[0]}", "-addext",
             "subjectAltName=" + ",".join(f"DNS:{one}" for one in names),
             "-keyout", self.key, "-out", self.certificate],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def der(self):
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())

    @property
    def fingerprint(self):
        return hashlib.sha256(self.der).hexdigest()

    def copy_over(self, other):
        """Into the other's place, as certificate renewal does."""
        for mine, theirs in ((self.key, other.key), (self.certificate, other.certificate)):
            new = theirs.with_suffix(".new")
            new.write_bytes(mine.read_bytes())
            os.replace(new, theirs)


def expired(folder, name):
    """A certificate that ended yesterday."""
    folder = pathlib.Path(folder)
    pair = Pair(folder, name)
    subprocess.run([tool("openssl"), "x509", "-in", pair.certificate, "-signkey", pair.key,
                    "-days", "-1", "-out", folder / f"{name}.old"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.replace(folder / f"{name}.old", pair.certificate)
    return pair


def early(folder, name):
    """A certificate that begins tomorrow."""
    folder = pathlib.Path(folder)
    pair = Pair(folder, name)
    request, config = folder / f"{name}.csr", folder / f"{name}.cnf"
    for file, text in (("index", ""), ("serial", "1000\n")):
        (folder / file).write_text(text)
    config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index\nserial={folder}/serial\n"
                      f"new_certs_dir={folder}\npolicy=p\ndefault_md=sha256\n[p]\ncommonName=supplied\n")
    begin = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    for command in (["req", "-new", "-key", pair.key, "-subj", "/CN=mx.us.example", "-out", request],
                    ["ca", "-batch", "-selfsign", "-config", config, "-keyfile", pair.key, "-in", request,
                     "-startdate", begin.strftime("%Y%m%d%H%M%SZ"), "-days", "30", "-notext",
                     "-out", folder / f"{name}.new"]):
        subprocess.run([tool("openssl"), *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.replace(folder / f"{name}.new", pair.certificate)
    return pair


def context(minimum=None, maximum=None, alpn=None, pair=None, ciphers=None):
    """Of a client that trusts anything."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if minimum is not None:
        made.minimum_version = minimum
    if maximum is not None:
        made.maximum_version = maximum
    if alpn:
        made.set_alpn_protocols(alpn)
    if pair:
        made.load_cert_chain(pair.certificate, pair.key)
    if ciphers:
        made.set_ciphers(ciphers)
    return made


class Client(smtp.Client):
    """Speaks TLS from the first octet, or after start_tls()."""

    def __init__(self, port, implicit=False, with_context=None, server_name=None, session=None,
                 **arguments):
        self.with_context = with_context or context()
        self.server_name = server_name
        self.session = session
        super().__init__(port, greet=not implicit, **arguments)
        if implicit:
            self.shake_hands()
            self.greeting = self.reply()

    def shake_hands(self):
        self.socket = self.with_context.wrap_socket(
            self.socket, server_hostname=self.server_name, session=self.session)
        return self

    def start_tls(self, hello=True):
        self.hello()
        self.expect("STARTTLS", 220)
        assert not self.buffer
        self.shake_hands()
        if hello:
            self.hello()
        return self

    def certificate(self):
        return hashlib.sha256(self.socket.getpeercert(binary_form=True)).hexdigest()

// SPDX-License-Identifier: LGPL-2.1-or-later
// TLS sessions: GnuTLS behind base/tls.h.
#include "base/tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

#include "base/error.h"

struct TlsCredentials {
    gint references;
    gnutls_certificate_credentials_t x509;
    guint8 sha256[32];
};

struct TlsSession {
    TlsCredentials *credentials;
    gnutls_session_t session;
    gboolean server;
    char *alpn_name;
};

static void
digest_of(const gnutls_datum_t *der, guint8 digest[32])
{
    size_t size = 32;
    gnutls_fingerprint(GNUTLS_DIG_SHA256, der, digest, &size);
}

static gboolean
check_file(const char *path, const char *what, GError **error)
{
    if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
        return TRUE;
    quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "%s is missing: %s was expected there", path, what);
    return FALSE;
}

static gboolean
fail(GError **error, int status, const char *what)
{
    quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "%s: %s", what, gnutls_strerror(status));
    return FALSE;
}

static gboolean
load(TlsCredentials *credentials, const char *ca, const char *crl, const char *cert, const char *key,
     GError **error)
{
    int status = gnutls_certificate_set_x509_trust_file(credentials->x509, ca, GNUTLS_X509_FMT_PEM);
    if (status <= 0)
        return fail(error, status, ca);
    if (crl && g_file_test(crl, G_FILE_TEST_EXISTS)) {
        status = gnutls_certificate_set_x509_crl_file(credentials->x509, crl, GNUTLS_X509_FMT_PEM);
        if (status < 0)
            return fail(error, status, crl);
    }
    status = gnutls_certificate_set_x509_key_file(credentials->x509, cert, key, GNUTLS_X509_FMT_PEM);
    if (status < 0)
        return fail(error, status, cert);
    gnutls_datum_t der;
    status = gnutls_certificate_get_crt_raw(credentials->x509, 0, 0, &der);
    if (status < 0)
        return fail(error, status, cert);
    digest_of(&der, credentials->sha256);
    return TRUE;
}

TlsCredentials *
tls_credentials_load(const char *ca_file, const char *crl_file, const char *cert_file, const char *key_file,
                     GError **error)
{
    if (!check_file(ca_file, "the certificate authority's certificate", error) ||
        !check_file(cert_file, "this host's certificate", error) ||
        !check_file(key_file, "this host's private key", error))
        return NULL;
    g_autoptr(TlsCredentials) credentials = g_new0(TlsCredentials, 1);
    credentials->references = 1;
    gnutls_certificate_allocate_credentials(&credentials->x509);
    if (!load(credentials, ca_file, crl_file, cert_file, key_file, error))
        return NULL;
    return g_steal_pointer(&credentials);
}

TlsCredentials *
tls_credentials_ref(TlsCredentials *credentials)
{
    g_atomic_int_inc(&credentials->references);
    return credentials;
}

void
tls_credentials_unref(TlsCredentials *credentials)
{
    if (!credentials || !g_atomic_int_dec_and_test(&credentials->references))
        return;
    gnutls_certificate_free_credentials(credentials->x509);
    g_free(credentials);
}

void
tls_credentials_sha256(const TlsCredentials *credentials, guint8 digest[32])
{
    memcpy(digest, credentials->sha256, 32);
}

static void
set_alpn(TlsSession *session, const char *const *names)
{
    gnutls_datum_t protocols[8];
    unsigned int n = 0;
    for (; names && names[n] && n < G_N_ELEMENTS(protocols); n++)
        protocols[n] = (gnutls_datum_t){(unsigned char *) names[n], (unsigned int) strlen(names[n])};
    if (n)
        gnutls_alpn_set_protocols(session->session, protocols, n, 0);
}

TlsSession *
tls_session_new(TlsCredentials *credentials, gboolean server, int fd, const char *const *alpn)
{
    TlsSession *session = g_new0(TlsSession, 1);
    session->credentials = tls_credentials_ref(credentials);
    session->server = server;
    gnutls_init(&session->session,
                (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_set_default_priority(session->session);
    gnutls_credentials_set(session->session, GNUTLS_CRD_CERTIFICATE, credentials->x509);
    if (server)
        gnutls_certificate_server_set_request(session->session, GNUTLS_CERT_REQUEST);
    set_alpn(session, alpn);
    gnutls_transport_set_int(session->session, fd);
    return session;
}

void
tls_session_free(TlsSession *session)
{
    if (!session)
        return;
    gnutls_deinit(session->session);
    tls_credentials_unref(session->credentials);
    g_free(session->alpn_name);
    g_free(session);
}

// What a GnuTLS status below zero means for a step.
static TlsStatus
step_status(TlsSession *session, int status, const char *doing, GError **error)
{
    if (status == GNUTLS_E_AGAIN || status == GNUTLS_E_INTERRUPTED)
        return gnutls_record_get_direction(session->session) ? TLS_WANT_WRITE : TLS_WANT_READ;
    if (!gnutls_error_is_fatal(status))
        return TLS_WANT_READ;
    quasar_set_error(error, VIR_ERR_RPC, "%s failed: %s", doing, gnutls_strerror(status));
    return TLS_FAILED;
}

TlsStatus
tls_session_handshake(TlsSession *session, GError **error)
{
    int status = gnutls_handshake(session->session);
    if (status < 0)
        return step_status(session, status, "TLS handshake", error);
    gnutls_datum_t name;
    if (gnutls_alpn_get_selected_protocol(session->session, &name) == 0)
        session->alpn_name = g_strndup((char *) name.data, name.size);
    return TLS_DONE;
}

gboolean
tls_session_verify(TlsSession *session, const char *hostname, GError **error)
{
    // Each side's certificate must be made for the part it plays.
    const char *purpose = session->server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
    gnutls_typed_vdata_st data[2] = {{GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *) purpose, 0},
                                     {GNUTLS_DT_DNS_HOSTNAME, (unsigned char *) hostname, 0}};
    unsigned int problems = 0;
    int status = gnutls_certificate_verify_peers(session->session, data, hostname ? 2 : 1, &problems);
    if (status < 0) {
        quasar_set_error(error, VIR_ERR_RPC, "cannot verify the peer's certificate: %s",
                         gnutls_strerror(status));
        return FALSE;
    }
    if (problems == 0)
        return TRUE;
    gnutls_datum_t text = {NULL, 0};
    gnutls_certificate_verification_status_print(problems, GNUTLS_CRT_X509, &text, 0);
    quasar_set_error(error, VIR_ERR_RPC, "the peer's certificate is not accepted: %s",
                     text.data ? (char *) text.data : "it cannot be verified");
    gnutls_free(text.data);
    return FALSE;
}

char *
tls_session_peer_dn(TlsSession *session)
{
    unsigned int n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session->session, &n);
    gnutls_x509_crt_t certificate;
    if (!chain || n == 0 || gnutls_x509_crt_init(&certificate) < 0)
        return NULL;
    gnutls_datum_t dn = {NULL, 0};
    char *text = NULL;
    if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
        gnutls_x509_crt_get_dn3(certificate, &dn, 0) == 0)
        text = g_strndup((char *) dn.data, dn.size);
    gnutls_free(dn.data);
    gnutls_x509_crt_deinit(certificate);
    return text;
}

gboolean
tls_session_peer_sha256(TlsSession *session, guint8 digest[32])
{
    unsigned int n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session->session, &n);
    if (!chain || n == 0)
        return FALSE;
    digest_of(&chain[0], digest);
    return TRUE;
}

const char *
tls_session_alpn(TlsSession *session)
{
    return session->alpn_name;
}

TlsStatus
tls_session_read(TlsSession *session, void *data, gsize length, gsize *done, GError **error)
{
    ssize_t n = gnutls_record_recv(session->session, data, length);
    if (n < 0)
        return step_status(session, (int) n, "reading from the TLS connection", error);
    *done = (gsize) n;
    return TLS_DONE;
}

TlsStatus
tls_session_write(TlsSession *session, const void *data, gsize length, gsize *done, GError **error)
{
    ssize_t n = gnutls_record_send(session->session, data, length);
    if (n < 0)
        return step_status(session, (int) n, "writing to the TLS connection", error);
    *done = (gsize) n;
    return TLS_DONE;
}

gsize
tls_session_pending(TlsSession *session)
{
    return gnutls_record_check_pending(session->session);
}

void
tls_session_bye(TlsSession *session)
{
    gnutls_bye(session->session, GNUTLS_SHUT_WR);
}

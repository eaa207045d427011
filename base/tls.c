// SPDX-License-Identifier: LGPL-2.1-or-later
// TLS sessions with GnuTLS over sockets that may be non-blocking.
#include "base/tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

#include "base/error.h"

struct TlsCredentials {
    gatomicrefcount refs;
    gnutls_certificate_credentials_t x509; // these, or ...
    guint8 sha256[32];
    gnutls_psk_client_credentials_t key_client; // ... these two
    gnutls_psk_server_credentials_t key_server;
    guint8 key[TLS_KEY];
};

struct TlsSession {
    gnutls_session_t gnutls;
    TlsCredentials *credentials;
    gboolean server;
    char alpn[64];
};

static gboolean
check_file(const char *path, const char *what, GError **error)
{
    if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
        return TRUE;
    quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "cannot read '%s': %s in PEM is expected there", path,
                     what);
    return FALSE;
}

static gboolean
digest_certificate(const gnutls_datum_t *der, guint8 digest[32])
{
    size_t size = 32;
    return gnutls_fingerprint(GNUTLS_DIG_SHA256, der, digest, &size) == 0;
}

static gboolean
load_files(TlsCredentials *credentials, const char *ca_file, const char *crl_file, const char *cert_file,
           const char *key_file, GError **error)
{
    int rc = gnutls_certificate_set_x509_trust_file(credentials->x509, ca_file, GNUTLS_X509_FMT_PEM);
    if (rc <= 0) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "'%s' holds no CA certificate in PEM: %s", ca_file,
                         rc < 0 ? gnutls_strerror(rc) : "it is empty");
        return FALSE;
    }
    if (crl_file && g_file_test(crl_file, G_FILE_TEST_EXISTS)) {
        rc = gnutls_certificate_set_x509_crl_file(credentials->x509, crl_file, GNUTLS_X509_FMT_PEM);
        if (rc < 0) {
            quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "'%s' holds no revocation list in PEM: %s",
                             crl_file, gnutls_strerror(rc));
            return FALSE;
        }
    }
    rc = gnutls_certificate_set_x509_key_file(credentials->x509, cert_file, key_file, GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "certificate '%s' and key '%s' cannot be used: %s",
                         cert_file, key_file, gnutls_strerror(rc));
        return FALSE;
    }
    gnutls_datum_t own = {NULL, 0};
    if (gnutls_certificate_get_crt_raw(credentials->x509, 0, 0, &own) < 0 ||
        !digest_certificate(&own, credentials->sha256)) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "'%s' holds no certificate", cert_file);
        return FALSE;
    }
    return TRUE;
}

TlsCredentials *
tls_credentials_load(const char *ca_file, const char *crl_file, const char *cert_file, const char *key_file,
                     GError **error)
{
    if (!check_file(ca_file, "the CA's certificate", error) ||
        !check_file(cert_file, "a certificate", error) ||
        !check_file(key_file, "the certificate's private key", error))
        return NULL;
    g_autoptr(TlsCredentials) credentials = g_new0(TlsCredentials, 1);
    g_atomic_ref_count_init(&credentials->refs);
    gnutls_certificate_allocate_credentials(&credentials->x509);
    if (!load_files(credentials, ca_file, crl_file, cert_file, key_file, error))
        return NULL;
    return g_steal_pointer(&credentials);
}

// The identity is no secret and tells nothing: a key is made for one connection.
#define KEY_IDENTITY "quasar"

static int
give_key(gnutls_session_t gnutls, const char *identity, gnutls_datum_t *key)
{
    const TlsSession *session = gnutls_session_get_ptr(gnutls);
    if (g_strcmp0(identity, KEY_IDENTITY) != 0)
        return -1;
    key->data = gnutls_malloc(TLS_KEY);
    key->size = TLS_KEY;
    if (!key->data)
        return -1;
    memcpy(key->data, session->credentials->key, TLS_KEY);
    return 0;
}

TlsCredentials *
tls_credentials_new_key(const guint8 key[TLS_KEY])
{
    TlsCredentials *credentials = g_new0(TlsCredentials, 1);
    const gnutls_datum_t datum = {(unsigned char *) key, TLS_KEY};
    g_atomic_ref_count_init(&credentials->refs);
    memcpy(credentials->key, key, TLS_KEY);
    gnutls_psk_allocate_client_credentials(&credentials->key_client);
    gnutls_psk_set_client_credentials(credentials->key_client, KEY_IDENTITY, &datum, GNUTLS_PSK_KEY_RAW);
    gnutls_psk_allocate_server_credentials(&credentials->key_server);
    gnutls_psk_set_server_credentials_function(credentials->key_server, give_key);
    return credentials;
}

TlsCredentials *
tls_credentials_ref(TlsCredentials *credentials)
{
    g_atomic_ref_count_inc(&credentials->refs);
    return credentials;
}

void
tls_credentials_unref(TlsCredentials *credentials)
{
    if (!credentials || !g_atomic_ref_count_dec(&credentials->refs))
        return;
    if (credentials->x509)
        gnutls_certificate_free_credentials(credentials->x509);
    if (credentials->key_client)
        gnutls_psk_free_client_credentials(credentials->key_client);
    if (credentials->key_server)
        gnutls_psk_free_server_credentials(credentials->key_server);
    gnutls_memset(credentials->key, 0, TLS_KEY);
    g_free(credentials);
}

void
tls_credentials_sha256(const TlsCredentials *credentials, guint8 digest[32])
{
    memcpy(digest, credentials->sha256, 32);
}

static void
use_certificates(TlsSession *session)
{
    gnutls_priority_set_direct(session->gnutls, "NORMAL", NULL);
    gnutls_credentials_set(session->gnutls, GNUTLS_CRD_CERTIFICATE, session->credentials->x509);
    if (session->server)
        gnutls_certificate_server_set_request(session->gnutls, GNUTLS_CERT_REQUIRE);
}

// A resumed session would need no key: no tickets. A key goes with SHA-256 only, and of those ciphers GnuTLS
// puts ChaCha20 before the one that CPUs have instructions for.
static void
use_key(TlsSession *session)
{
    gnutls_priority_set_direct(session->gnutls,
                               "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+AES-128-GCM:"
                               "+CHACHA20-POLY1305:%DISABLE_TLS13_COMPAT_MODE",
                               NULL);
    if (session->server)
        gnutls_credentials_set(session->gnutls, GNUTLS_CRD_PSK, session->credentials->key_server);
    else
        gnutls_credentials_set(session->gnutls, GNUTLS_CRD_PSK, session->credentials->key_client);
}

TlsSession *
tls_session_new(TlsCredentials *credentials, gboolean server, int fd, const char *const *alpn)
{
    TlsSession *session = g_new0(TlsSession, 1);
    session->server = server;
    session->credentials = tls_credentials_ref(credentials);
    unsigned int flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;
    if (!credentials->x509)
        flags |= GNUTLS_NO_TICKETS;
    gnutls_init(&session->gnutls, flags | (unsigned int) (server ? GNUTLS_SERVER : GNUTLS_CLIENT));
    gnutls_session_set_ptr(session->gnutls, session);
    if (credentials->x509)
        use_certificates(session);
    else
        use_key(session);
    gnutls_datum_t names[8];
    unsigned int n = 0;
    for (; alpn && alpn[n] && n < G_N_ELEMENTS(names); n++)
        names[n] = (gnutls_datum_t){(unsigned char *) alpn[n], (unsigned int) strlen(alpn[n])};
    if (n > 0)
        gnutls_alpn_set_protocols(session->gnutls, names, n, 0);
    gnutls_transport_set_int(session->gnutls, fd);
    return session;
}

void
tls_session_free(TlsSession *session)
{
    if (!session)
        return;
    gnutls_deinit(session->gnutls);
    tls_credentials_unref(session->credentials);
    g_free(session);
}

static TlsStatus
step_status(TlsSession *session, ssize_t rc, const char *what, GError **error)
{
    if (rc >= 0)
        return TLS_DONE;
    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
        return gnutls_record_get_direction(session->gnutls) ? TLS_WANT_WRITE : TLS_WANT_READ;
    if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
        quasar_set_error(error, VIR_ERR_RPC, "%s: the other side refused: %s", what,
                         gnutls_alert_get_name(gnutls_alert_get(session->gnutls)));
    else
        quasar_set_error(error, VIR_ERR_RPC, "%s: %s", what, gnutls_strerror((int) rc));
    return TLS_FAILED;
}

TlsStatus
tls_session_handshake(TlsSession *session, GError **error)
{
    int rc = gnutls_handshake(session->gnutls);
    // A warning alert does not end a handshake.
    while (rc < 0 && !gnutls_error_is_fatal(rc) && rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED)
        rc = gnutls_handshake(session->gnutls);
    if (rc == GNUTLS_E_PREMATURE_TERMINATION) {
        quasar_set_error(error, VIR_ERR_NO_CONNECT, "the other side went away during the TLS handshake");
        return TLS_FAILED;
    }
    return step_status(session, rc, "TLS handshake failed", error);
}

gboolean
tls_session_verify(TlsSession *session, const char *hostname, GError **error)
{
    const char *purpose = session->server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
    gnutls_typed_vdata_st data[2] = {
        {GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *) purpose, 0},
        {GNUTLS_DT_DNS_HOSTNAME, (unsigned char *) hostname, 0},
    };
    unsigned int status = 0;
    int rc = gnutls_certificate_verify_peers(session->gnutls, data, hostname ? 2 : 1, &status);
    if (rc < 0) {
        quasar_set_error(error, VIR_ERR_RPC, "the peer's certificate cannot be verified: %s",
                         gnutls_strerror(rc));
        return FALSE;
    }
    if (status == 0)
        return TRUE;
    gnutls_datum_t text = {NULL, 0};
    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    quasar_set_error(error, VIR_ERR_RPC, "the peer's certificate is refused: %s",
                     text.data ? g_strchomp((char *) text.data) : "not trusted");
    gnutls_free(text.data);
    return FALSE;
}

static const gnutls_datum_t *
peer_certificate(TlsSession *session)
{
    unsigned int n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session->gnutls, &n);
    return n > 0 ? chain : NULL;
}

char *
tls_session_peer_dn(TlsSession *session)
{
    const gnutls_datum_t *der = peer_certificate(session);
    gnutls_x509_crt_t cert;
    if (!der || gnutls_x509_crt_init(&cert) < 0)
        return NULL;
    char dn[1024] = "";
    size_t size = sizeof dn;
    gboolean ok = gnutls_x509_crt_import(cert, der, GNUTLS_X509_FMT_DER) == 0 &&
                  gnutls_x509_crt_get_dn(cert, dn, &size) == 0;
    gnutls_x509_crt_deinit(cert);
    return ok ? g_strdup(dn) : NULL;
}

gboolean
tls_session_peer_sha256(TlsSession *session, guint8 digest[32])
{
    const gnutls_datum_t *der = peer_certificate(session);
    return der && digest_certificate(der, digest);
}

const char *
tls_session_alpn(TlsSession *session)
{
    gnutls_datum_t name = {NULL, 0};
    if (gnutls_alpn_get_selected_protocol(session->gnutls, &name) < 0)
        return NULL;
    gsize length = MIN(name.size, sizeof session->alpn - 1);
    memcpy(session->alpn, name.data, length);
    session->alpn[length] = '\0';
    return session->alpn;
}

gboolean
tls_session_export_key(TlsSession *session, const char *label, guint8 key[TLS_KEY], GError **error)
{
    int rc = gnutls_prf_rfc5705(session->gnutls, strlen(label), label, 0, NULL, TLS_KEY, (char *) key);
    if (rc < 0)
        quasar_set_error(error, VIR_ERR_RPC, "no key can be made of a TLS session: %s", gnutls_strerror(rc));
    return rc >= 0;
}

TlsStatus
tls_session_read(TlsSession *session, void *data, gsize length, gsize *done, GError **error)
{
    ssize_t n = gnutls_record_recv(session->gnutls, data, length);
    *done = n > 0 ? (gsize) n : 0;
    return step_status(session, n, "TLS read failed", error);
}

TlsStatus
tls_session_write(TlsSession *session, const void *data, gsize length, gsize *done, GError **error)
{
    ssize_t n = gnutls_record_send(session->gnutls, data, length);
    *done = n > 0 ? (gsize) n : 0;
    return step_status(session, n, "TLS write failed", error);
}

gsize
tls_session_pending(TlsSession *session)
{
    return gnutls_record_check_pending(session->gnutls);
}

void
tls_session_refuse(TlsSession *session)
{
    gnutls_alert_send(session->gnutls, GNUTLS_AL_FATAL, GNUTLS_A_ACCESS_DENIED);
}

void
tls_session_bye(TlsSession *session)
{
    gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
}

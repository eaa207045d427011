// SPDX-License-Identifier: LGPL-2.1-or-later
// TLS sessions with libvirt's PKI: credentials, handshake, bytes, and who the peer is.
#pragma once

#include <glib.h>

// Credentials are immutable once loaded and may be shared by threads; a session belongs to one thread at a
// time (GnuTLS sessions must not be used by two threads).
typedef struct TlsCredentials TlsCredentials;
typedef struct TlsSession TlsSession;

// Loads PEM files (libvirt's remote PKI). `crl` may be NULL or absent. VIR_ERR_SYSTEM_ERROR names the file
// that is missing or wrong and what was expected there.
TlsCredentials *tls_credentials_load(const char *ca_file, const char *crl_file, const char *cert_file,
                                     const char *key_file, GError **error);
TlsCredentials *tls_credentials_ref(TlsCredentials *credentials);
void tls_credentials_unref(TlsCredentials *credentials);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsCredentials, tls_credentials_unref)

// The SHA-256 of our own certificate (DER), 32 bytes: what peers pin.
void tls_credentials_sha256(const TlsCredentials *credentials, guint8 digest[32]);

// Credentials of a shared key instead, for sessions between two processes that were given it.
#define TLS_KEY 32u
TlsCredentials *tls_credentials_new_key(const guint8 key[TLS_KEY]);

// A session on a connected socket that stays the caller's and outlives it. `alpn`: NULL-terminated protocol
// names, offered (client) or accepted (server; a client that offers none is accepted too). Both sides present
// certificates, or prove that they know the key; of the credentials of a key, peers have no names.
TlsSession *tls_session_new(TlsCredentials *credentials, gboolean server, int fd, const char *const *alpn);
void tls_session_free(TlsSession *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsSession, tls_session_free)

// What a step of a non-blocking session came to.
typedef enum {
    TLS_DONE,       // finished
    TLS_WANT_READ,  // call again when the socket is readable
    TLS_WANT_WRITE, // call again when the socket is writable
    TLS_FAILED,     // error is set, the session is dead
} TlsStatus;

// VIR_ERR_RPC, or VIR_ERR_NO_CONNECT when the other side has closed the connection.
TlsStatus tls_session_handshake(TlsSession *session, GError **error);

// After the handshake. Verifies the peer's certificate: chain, times, purpose and, with `hostname`, the name.
// VIR_ERR_RPC.
gboolean tls_session_verify(TlsSession *session, const char *hostname, GError **error);

// The peer's distinguished name ("C=..,O=..,CN=..", GnuTLS order); caller frees.
char *tls_session_peer_dn(TlsSession *session);

// The SHA-256 of the peer's certificate (DER). FALSE when it showed none.
gboolean tls_session_peer_sha256(TlsSession *session, guint8 digest[32]);

// The protocol agreed by ALPN, or NULL when the client offered none. Borrowed.
const char *tls_session_alpn(TlsSession *session);

// A key that both sides of the session can make and nobody else (RFC 5705, RFC 8446 section 7.5). `label`
// tells keys of one session from each other.
gboolean tls_session_export_key(TlsSession *session, const char *label, guint8 key[TLS_KEY], GError **error);

// Reads or writes up to `length` bytes. TLS_DONE: *done bytes were moved (reading 0 bytes: the peer closed in
// order). A connection cut without close_notify is TLS_FAILED.
TlsStatus tls_session_read(TlsSession *session, void *data, gsize length, gsize *done, GError **error);
TlsStatus tls_session_write(TlsSession *session, const void *data, gsize length, gsize *done, GError **error);

// Bytes already decrypted, so that poll() on the socket would miss them.
gsize tls_session_pending(TlsSession *session);

// Tells the peer, by an alert and without waiting, that it may not enter: after a tls_session_verify() that
// failed, for example. The session is to be freed then.
void tls_session_refuse(TlsSession *session);

// Sends close_notify, without waiting.
void tls_session_bye(TlsSession *session);

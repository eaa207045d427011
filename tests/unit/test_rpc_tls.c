// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/rpc/ over TLS: who is let in, who is handed over as a peer, and what a client is told who is not.
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/certificates.h"
#include "tests/unit/files.h"
#include "tests/unit/rpc_fixture.h"

static char *here, *elsewhere;
static Authority *authority;

static int
make_certificates(void **state)
{
    here = test_directory_new();
    elsewhere = test_directory_new();
    g_autoptr(Authority) other = authority_new(elsewhere, "other authority");
    authority_issue(other, "server", &(CertificateSpec){.host = "localhost", .address = "127.0.0.1"});
    authority_issue(other, "client", &(CertificateSpec){.cn = "hostA"});
    authority = authority_new(here, "authority");
    authority_issue(authority, "server", &(CertificateSpec){.host = "localhost", .address = "127.0.0.1"});
    authority_issue(authority, "nameless", &(CertificateSpec){.cn = "hostB"});
    authority_issue(authority, "client", &(CertificateSpec){.cn = "hostA"});
    authority_issue(authority, "expired", &(CertificateSpec){.cn = "hostA", .begins = -7000, .ends = -60});
    authority_issue(authority, "revoked", &(CertificateSpec){.cn = "hostA"});
    authority_revoke_last(authority);
    return 0;
}

static int
remove_certificates(void **state)
{
    authority_free(authority);
    test_directory_free(here);
    test_directory_free(elsewhere);
    return 0;
}

// ---- the server ----

typedef struct {
    TlsCredentials *credentials;
    const char *const *allowed;
    guint16 port;
} Listen;

static void
listen_tls(RpcFixture *fixture, gpointer data)
{
    Listen *listen = data;
    g_autoptr(GError) error = NULL;
    rpc_server_listen_tls(fixture->server, "127.0.0.1", 0, listen->credentials, listen->allowed, &error);
    g_assert_no_error(error);
    listen->port = rpc_server_port(fixture->server);
}

static guint16
listen_as(RpcFixture *fixture, const char *certificate, const char *const *allowed)
{
    g_autoptr(TlsCredentials) credentials = certificates_load(here, here, certificate);
    Listen listen = {credentials, allowed, 0};
    rpc_fixture_run(fixture, listen_tls, &listen);
    assert_int_not_equal(listen.port, 0);
    return listen.port;
}

static RpcClient *
connect_with(guint16 port, const char *owner, const char *certificate, GError **error)
{
    g_autofree char *uri = g_strdup_printf("quasar+tls://127.0.0.1:%u/system", port);
    g_autoptr(TlsCredentials) credentials = certificates_load(here, owner, certificate);
    return rpc_client_connect(uri, credentials, error);
}

static void
assert_not_let_in(guint16 port, const char *owner, const char *certificate)
{
    g_autoptr(GError) error = NULL;
    assert_null(connect_with(port, owner, certificate, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    if (!strstr(error->message, "127.0.0.1") || !strstr(error->message, "did not accept our certificate"))
        fail_msg("%s: %s", certificate, error->message);
}

static void
a_client_with_a_certificate_is_served(void **state)
{
    RpcFixture *fixture = *state;
    guint16 port = listen_as(fixture, "server", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(RpcClient) client = connect_with(port, here, "client", &error);
    assert_null(error);
    assert_echo(client, 4);
    g_mutex_lock(&fixture->lock);
    assert_int_equal(fixture->names->len, 1);
    assert_string_equal(fixture->names->pdata[0], "O=Quasar tests,CN=hostA");
    assert_null(fixture->peer_tls);
    g_mutex_unlock(&fixture->lock);
}

static void
large_messages_pass(void **state)
{
    WireIntArgs args = {3000000};
    WireTextRet ret;
    guint16 port = listen_as(*state, "server", NULL);
    g_autoptr(RpcClient) client = connect_with(port, here, "client", NULL);
    assert_non_null(client);
    for (int i = 0; i < 5; i++) {
        assert_true(rpc_client_call(client, rpc_fixture_procedure(BIG), &args, &ret, WAIT_MS, NULL));
        assert_int_equal(strlen(ret.text), args.value);
        xdr_free((xdrproc_t) xdr_WireTextRet, (char *) &ret);
    }
}

static void
bad_certificates_are_not_let_in(void **state)
{
    RpcFixture *fixture = *state;
    guint16 port = listen_as(fixture, "server", NULL);
    assert_not_let_in(port, here, "expired");
    assert_not_let_in(port, here, "revoked");
    assert_not_let_in(port, elsewhere, "client");
    assert_int_equal(fixture->names->len, 0);
    // Nor does one refusal harm the next client.
    g_autoptr(RpcClient) client = connect_with(port, here, "client", NULL);
    assert_non_null(client);
    assert_echo(client, 5);
}

static void
the_list_of_names_decides(void **state)
{
    static const char *const others[] = {"O=Quasar tests,CN=hostZ", "*,CN=hostB", NULL};
    static const char *const matching[] = {"nobody", "O=Quasar*,CN=hostA", NULL};
    static const char *const empty[] = {NULL};
    RpcFixture *fixture = *state;
    assert_not_let_in(listen_as(fixture, "server", others), here, "client");
    assert_not_let_in(listen_as(fixture, "server", empty), here, "client");
    assert_int_equal(fixture->names->len, 0);
    g_autoptr(RpcClient) client = connect_with(listen_as(fixture, "server", matching), here, "client", NULL);
    assert_non_null(client);
    assert_echo(client, 6);
}

// ---- clients of our own make ----

static int
connect_tcp(guint16 port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = g_htons(port)};
    address.sin_addr.s_addr = g_htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    return fd;
}

static void
without_a_certificate_nobody_is_let_in(void **state)
{
    RpcFixture *fixture = *state;
    g_autofree char *ca = g_build_filename(here, "cacert.pem", NULL);
    int fd = connect_tcp(listen_as(fixture, "server", NULL));
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    char byte;
    gnutls_certificate_allocate_credentials(&credentials);
    assert_true(gnutls_certificate_set_x509_trust_file(credentials, ca, GNUTLS_X509_FMT_PEM) > 0);
    gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    gnutls_priority_set_direct(session, "NORMAL", NULL);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, WAIT_MS);
    // With TLS 1.3 the client learns it when it reads.
    if (gnutls_handshake(session) == 0)
        assert_true(gnutls_record_recv(session, &byte, 1) < 0);
    assert_int_equal(fixture->names->len, 0);
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    close(fd);
}

static void
rubbish_instead_of_tls_is_cut(void **state)
{
    RpcFixture *fixture = *state;
    guint16 port = listen_as(fixture, "server", NULL);
    g_autofree char *garbage = g_strnfill(4096, '\xa5');
    char byte;
    for (gsize length = 1; length <= 4096; length *= 4) {
        int fd = connect_tcp(port);
        assert_int_equal(send(fd, garbage, length, MSG_NOSIGNAL), length);
        shutdown(fd, SHUT_WR);
        while (read(fd, &byte, 1) > 0)
            ;
        close(fd);
    }
    assert_int_equal(fixture->names->len, 0);
    g_autoptr(RpcClient) client = connect_with(port, here, "client", NULL);
    assert_non_null(client);
    assert_echo(client, 5);
}

static TlsSession *
handshake(int fd, const char *owner, const char *const *alpn)
{
    g_autoptr(TlsCredentials) credentials = certificates_load(here, owner, "client");
    TlsSession *tls = tls_session_new(credentials, FALSE, fd, alpn);
    TlsStatus status;
    while ((status = tls_session_handshake(tls, NULL)) != TLS_DONE) {
        struct pollfd pfd = {.fd = fd, .events = status == TLS_WANT_WRITE ? POLLOUT : POLLIN};
        assert_int_not_equal(status, TLS_FAILED);
        assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
    }
    return tls;
}

static TlsStatus
read_some(TlsSession *tls, int fd, char *data, gsize length, gsize *done)
{
    TlsStatus status;
    while ((status = tls_session_read(tls, data, length, done, NULL)) == TLS_WANT_READ) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        if (poll(&pfd, 1, WAIT_MS) != 1)
            break;
    }
    return status;
}

// One record of TLS holds many frames: what the server has not looked at yet, poll() does not see. It stops
// looking at the limit of requests, and while its replies are not read.
static void
calls_that_share_a_record_are_all_answered(void **state)
{
    enum { CALLS = 20000 };
    guint16 port = listen_as(*state, "server", NULL);
    int fd = connect_tcp(port);
    TlsSession *tls = handshake(fd, here, NULL);
    char accepted = 0;
    gsize done = 0;
    assert_int_equal(read_some(tls, fd, &accepted, 1, &done), TLS_DONE);
    assert_int_equal(accepted, 1);
    g_autoptr(RpcConnection) connection = rpc_connection_new(fd, tls);
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (guint i = 0; i < CALLS; i++) {
        WireIntArgs args = {(int) i};
        g_autoptr(RpcMessage) call = wire_call(i % 50 ? 9999 : ECHO, i, (xdrproc_t) xdr_WireIntArgs, &args);
        g_byte_array_append(all, call->bytes->data, call->bytes->len);
    }
    rpc_connection_queue_bytes(connection, all->data, all->len);
    for (guint answered = 0; answered < CALLS;) {
        g_autoptr(RpcMessage) reply = NULL;
        assert_int_not_equal(rpc_connection_send(connection, NULL), RPC_IO_FAILED);
        RpcIo io = rpc_connection_receive(connection, &reply, NULL);
        if (io == RPC_IO_AGAIN) {
            GIOCondition wants = rpc_connection_condition(connection, TRUE);
            struct pollfd pfd = {.fd = fd, .events = (short) wants}; // the same bits
            assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
            continue;
        }
        assert_int_equal(io, RPC_IO_MESSAGE);
        assert_int_equal(reply->header.status, reply->header.serial % 50 ? RPC_ERROR : RPC_OK);
        answered++;
    }
}

static int
tcp_option(int fd, int level, int option)
{
    int value = -1;
    socklen_t size = sizeof(value);
    assert_return_code(getsockopt(fd, level, option, &value, &size), errno);
    return value;
}

// Seen through a connection that is handed over: it came by the same door as all others.
static void
the_kernel_watches_the_hosts_of_clients(void **state)
{
    static const char *const peer[] = {RPC_PEER_ALPN, NULL};
    RpcFixture *fixture = *state;
    int fd = connect_tcp(listen_as(fixture, "server", NULL));
    g_autoptr(TlsSession) tls = handshake(fd, here, peer);
    g_mutex_lock(&fixture->lock);
    while (!fixture->peer_tls)
        g_cond_wait(&fixture->changed, &fixture->lock);
    int theirs = fixture->peer_fd;
    g_mutex_unlock(&fixture->lock);
    assert_int_equal(tcp_option(theirs, SOL_SOCKET, SO_KEEPALIVE), 1);
    // A silent host is noticed by probes, one that leaves bytes unacknowledged by their timeout; in minutes,
    // not hours.
    int probes_s =
        tcp_option(theirs, IPPROTO_TCP, TCP_KEEPIDLE) +
        tcp_option(theirs, IPPROTO_TCP, TCP_KEEPINTVL) * tcp_option(theirs, IPPROTO_TCP, TCP_KEEPCNT);
    assert_in_range(probes_s, 1, 120);
    assert_in_range(tcp_option(theirs, IPPROTO_TCP, TCP_USER_TIMEOUT), 1, 120 * 1000);
    close(fd);
}

static void
a_peer_is_handed_over(void **state)
{
    static const char *const peer[] = {RPC_PEER_ALPN, NULL};
    RpcFixture *fixture = *state;
    char text[4];
    gsize done = 0;
    int fd = connect_tcp(listen_as(fixture, "server", NULL));
    g_autoptr(TlsSession) tls = handshake(fd, here, peer);
    // Bytes that come with the last flight are the peer's, not a frame.
    assert_int_equal(tls_session_write(tls, "ours", 4, &done, NULL), TLS_DONE);
    g_mutex_lock(&fixture->lock);
    while (!fixture->peer_tls)
        g_cond_wait(&fixture->changed, &fixture->lock);
    int theirs = fixture->peer_fd;
    TlsSession *server = fixture->peer_tls;
    g_mutex_unlock(&fixture->lock);
    assert_int_equal(read_some(server, theirs, text, sizeof(text), &done), TLS_DONE);
    assert_int_equal(done, 4);
    assert_memory_equal(text, "ours", 4);
    // And nothing but what it says comes back: not the byte that clients get.
    assert_int_equal(tls_session_write(server, "mine", 4, &done, NULL), TLS_DONE);
    assert_int_equal(read_some(tls, fd, text, sizeof(text), &done), TLS_DONE);
    assert_memory_equal(text, "mine", 4);
    assert_int_equal(fixture->names->len, 0);
    close(fd);
}

static void
a_peer_that_is_not_allowed_is_not_handed_over(void **state)
{
    static const char *const peer[] = {RPC_PEER_ALPN, NULL}, *const others[] = {"*,CN=hostZ", NULL};
    RpcFixture *fixture = *state;
    guint16 port = listen_as(fixture, "server", others);
    char byte;
    gsize done = 0;
    int fd = connect_tcp(port);
    g_autoptr(TlsSession) tls = handshake(fd, here, peer);
    assert_int_equal(read_some(tls, fd, &byte, 1, &done), TLS_FAILED);
    assert_null(fixture->peer_tls);
    close(fd);
}

// ---- what our client says ----

static void
a_server_that_is_not_trusted_is_named(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(GError) nameless = NULL, foreign = NULL;
    assert_null(connect_with(listen_as(fixture, "nameless", NULL), here, "client", &nameless));
    assert_int_equal(quasar_error_code(nameless), VIR_ERR_RPC);
    assert_non_null(strstr(nameless->message, "server '127.0.0.1'"));
    assert_non_null(strstr(nameless->message, "name"));

    // Trusts the other authority, and shows its certificate.
    g_autofree char *uri =
        g_strdup_printf("quasar+tls://127.0.0.1:%u/system", listen_as(fixture, "server", NULL));
    g_autoptr(TlsCredentials) theirs = certificates_load(elsewhere, elsewhere, "client");
    assert_null(rpc_client_connect(uri, theirs, &foreign));
    assert_int_equal(quasar_error_code(foreign), VIR_ERR_RPC);
    assert_non_null(strstr(foreign->message, "server '127.0.0.1'"));
    assert_non_null(strstr(foreign->message, "NOT trusted"));
    assert_int_equal(fixture->sessions, 0);
}

static void
certificates_may_come_from_the_uri(void **state)
{
    guint16 port = listen_as(*state, "server", NULL);
    g_autoptr(GError) missing = NULL, none = NULL, error = NULL;
    g_autofree char *uri = g_strdup_printf("quasar+tls://localhost:%u/system?pkipath=%s", port, here);
    g_autofree char *wrong = g_strdup_printf("quasar+tls://localhost:%u/system?pkipath=/nowhere", port);
    g_autofree char *plain = g_strdup_printf("quasar://localhost:%u/system", port);
    g_autoptr(RpcClient) client = rpc_client_connect(uri, NULL, &error);
    assert_null(error);
    assert_echo(client, 3);
    assert_null(rpc_client_connect(wrong, NULL, &missing));
    assert_non_null(strstr(missing->message, "/nowhere/cacert.pem"));
    assert_null(rpc_client_connect(plain, NULL, &none)); // a host means TLS
    assert_non_null(strstr(none->message, "no client certificate"));
}

static gpointer
speak_no_tls(gpointer data)
{
    int fd = accept4(GPOINTER_TO_INT(data), NULL, NULL, SOCK_CLOEXEC);
    ssize_t n = send(fd, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL);
    close(fd);
    return GINT_TO_POINTER((int) n);
}

static void
no_tls_at_the_other_end(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    address.sin_addr.s_addr = g_htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_return_code(listen(listener, 1), 0);
    assert_return_code(getsockname(listener, (struct sockaddr *) &address, &length), 0);
    guint16 port = g_ntohs(address.sin_port);
    g_autoptr(GError) garbage = NULL, refused = NULL;
    GThread *thread = g_thread_new("no-tls", speak_no_tls, GINT_TO_POINTER(listener));
    assert_null(connect_with(port, here, "client", &garbage));
    assert_int_equal(quasar_error_code(garbage), VIR_ERR_RPC);
    assert_non_null(strstr(garbage->message, "server '127.0.0.1': TLS handshake failed"));
    g_thread_join(thread);
    close(listener);
    assert_null(connect_with(port, here, "client", &refused));
    assert_int_equal(quasar_error_code(refused), VIR_ERR_SYSTEM_ERROR);
    g_autofree char *where = g_strdup_printf("127.0.0.1:%u", port);
    assert_non_null(strstr(refused->message, where));
    assert_non_null(strstr(refused->message, "refused"));
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, rpc_fixture_setup, rpc_fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(a_client_with_a_certificate_is_served),
        LIVE(large_messages_pass),
        LIVE(bad_certificates_are_not_let_in),
        LIVE(the_list_of_names_decides),
        LIVE(without_a_certificate_nobody_is_let_in),
        LIVE(rubbish_instead_of_tls_is_cut),
        LIVE(calls_that_share_a_record_are_all_answered),
        LIVE(the_kernel_watches_the_hosts_of_clients),
        LIVE(a_peer_is_handed_over),
        LIVE(a_peer_that_is_not_allowed_is_not_handed_over),
        LIVE(a_server_that_is_not_trusted_is_named),
        LIVE(certificates_may_come_from_the_uri),
        cmocka_unit_test(no_tls_at_the_other_end),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}

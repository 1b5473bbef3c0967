/* The bench's server: one thread, prepared answers, so that what is measured is the client.
 *
 *   server FOLDER [PEM]     prints its port, then serves until its standard input ends; PEM: over TLS (built with -DTLS)
 *
 * The first segment of a path names the answer: /NAME/... sends the file NAME.http as it is. /pacedMS-COUNT/...
 * sends the first COUNT events of paced.parts one by one, MS milliseconds apart, the first at any time within that;
 * /tokens-MS-FIRST-COUNT-GROUP/... sends GROUP at a time, the first FIRST milliseconds after the request. /hold/... never
 * answers. Requests carry Content-Length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *context;
#endif

typedef struct {
    char *bytes;
    size_t size;
} Blob;

typedef struct {
    char name[64];
    Blob body;
} Answer;

typedef struct {
    int fd;
    char *in;
    size_t have, room;
    const char *out;
    size_t left;
    int part;           /* the next part of a paced answer; -1: none under way */
    long long due, gap; /* ns */
    int count, group;   /* how many parts there are to send, how many at a time */
    int place;          /* in the table of paced connections */
#ifdef TLS
    SSL *tls;
#endif
} Peer;

static Answer answers[64];
static int answer_count;
static Blob parts[4096];
static int part_count;
static Peer *paced[8192];
static int paced_count;
static int poller;
static const char *folder;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int load(const char *name, Blob *blob) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    blob->size = ftell(file);
    rewind(file);
    blob->bytes = malloc(blob->size + 1);
    if (fread(blob->bytes, 1, blob->size, file) != blob->size) exit(1);
    blob->bytes[blob->size] = 0;
    fclose(file);
    return 1;
}

/* paced.parts: for each part its size in decimal, a line feed, its bytes. They are moved to follow each other. */
static void load_parts(void) {
    Blob all;
    if (!load("paced.parts", &all)) return;
    char *to = all.bytes;
    for (char *at = all.bytes; at < all.bytes + all.size;) {
        char *after;
        long size = strtol(at, &after, 10);
        at = after + 1 + size;
        memmove(to, after + 1, size);
        parts[part_count].bytes = to;
        parts[part_count++].size = size;
        to += size;
    }
}

static ssize_t take(Peer *peer, char *into, size_t room) {
#ifdef TLS
    if (peer->tls) {
        ERR_clear_error();
        int got = SSL_read(peer->tls, into, (int)room);
        if (got > 0) return got;
        int why = SSL_get_error(peer->tls, got);
        errno = EAGAIN;
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? -1 : 0;
    }
#endif
    return recv(peer->fd, into, room, 0);
}

static ssize_t give(Peer *peer, const char *bytes, size_t size) {
#ifdef TLS
    if (peer->tls) {
        ERR_clear_error();
        int sent = SSL_write(peer->tls, bytes, (int)size);
        if (sent > 0) return sent;
        errno = SSL_get_error(peer->tls, sent) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
        return -1;
    }
#endif
    return send(peer->fd, bytes, size, MSG_NOSIGNAL);
}

static Blob *answer_named(const char *name) {
    for (int i = 0; i < answer_count; i++)
        if (!strcmp(answers[i].name, name)) return &answers[i].body;
    char file[128];
    snprintf(file, sizeof file, "%s.http", name);
    if (answer_count == 64 || !load(file, &answers[answer_count].body)) return NULL;
    strcpy(answers[answer_count].name, name);
    return &answers[answer_count++].body;
}

static void watch(Peer *peer, int how, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    epoll_ctl(poller, how, peer->fd, &event);
}

static void unpace(Peer *peer) {
    if (peer->part < 0) return;
    paced[peer->place] = paced[--paced_count];
    paced[peer->place]->place = peer->place;
    peer->part = -1;
}

static void drop(Peer *peer) {
    unpace(peer);
#ifdef TLS
    if (peer->tls) SSL_free(peer->tls);
#endif
    close(peer->fd);
    free(peer->in);
    free(peer);
}

static int push(Peer *peer) {
    while (peer->left) {
        ssize_t sent = give(peer, peer->out, peer->left);
        if (sent < 0) {
            if (errno != EAGAIN) return -1;
            watch(peer, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return 0;
        }
        peer->out += sent;
        peer->left -= sent;
    }
    return 0;
}

static int begin(Peer *peer, const char *name) {
    if (!strcmp(name, "hold")) return 0;
    int gap, first, count, group, one_by_one = sscanf(name, "paced%d-%d", &gap, &count) == 2;
    int grouped = sscanf(name, "tokens-%d-%d-%d-%d", &gap, &first, &count, &group) == 4;
    if ((one_by_one || grouped) && part_count && paced_count < 8192) {
        peer->gap = gap * 1000000LL;
        peer->due = now() + (one_by_one ? (long long)(drand48() * peer->gap) : first * 1000000LL);
        peer->count = count < 1 || count >= part_count ? part_count - 1 : count;
        peer->group = one_by_one || group < 1 ? 1 : group;
        peer->part = 0;
        peer->place = paced_count;
        paced[paced_count++] = peer;
        return 0;
    }
    Blob *body = answer_named(name);
    if (!body) return -1;
    peer->out = body->bytes;
    peer->left = body->size;
    return push(peer);
}

/* Takes one request off the buffer, if a whole one is there: 1; 0: not yet; -1: drop. */
static int request(Peer *peer) {
    char *end = memmem(peer->in, peer->have, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t total = end + 4 - peer->in, length = 0;
    for (char *line = peer->in; line && line < end; line = memchr(line, '\n', end - line)) {
        if (*line == '\n') line++;
        if (!strncasecmp(line, "content-length:", 15)) length = atol(line + 15);
    }
    if (peer->have < total + length) return 0;
    char name[64] = "";
    sscanf(peer->in, "%*s /%63[^/ ?]", name);
    peer->have -= total + length;
    memmove(peer->in, peer->in + total + length, peer->have);
    return begin(peer, name) < 0 ? -1 : 1;
}

static int readable(Peer *peer) {
    for (;;) {
        if (peer->room - peer->have < 65536) peer->in = realloc(peer->in, peer->room += 131072);
        ssize_t got = take(peer, peer->in + peer->have, peer->room - peer->have);
        if (got == 0) return -1;
        if (got < 0) {
            if (errno == EAGAIN) break;
            return -1;
        }
        peer->have += got;
    }
    int more = 1;
    while (more > 0 && peer->have && !peer->left && peer->part < 0) more = request(peer);
    return more < 0 ? -1 : 0;
}

static void pace(long long at) {
    for (int i = paced_count - 1; i >= 0; i--) {
        if (i >= paced_count || paced[i]->due > at) continue;
        Peer *peer = paced[i];
        int next = peer->part + peer->group;
        if (next > peer->count) next = peer->count;
        char *first = parts[peer->part].bytes;
        ssize_t size = parts[next].bytes - first; /* the last part, which ends the stream, is never among these */
        Blob *end = &parts[part_count - 1];
        if (give(peer, first, size) != size || (next == peer->count && give(peer, end->bytes, end->size) < 0)) {
            drop(peer);
            continue;
        }
        peer->due += peer->gap;
        peer->part = next;
        if (next == peer->count) unpace(peer);
    }
}

static void greet(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Peer *peer = calloc(1, sizeof *peer);
        peer->fd = fd;
        peer->part = -1;
#ifdef TLS
        if (context) {
            peer->tls = SSL_new(context);
            SSL_set_fd(peer->tls, fd);
            SSL_set_accept_state(peer->tls);
        }
#endif
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int secure(const char *pem) {
#ifdef TLS
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return SSL_CTX_use_certificate_chain_file(context, pem) == 1 &&
           SSL_CTX_use_PrivateKey_file(context, pem, SSL_FILETYPE_PEM) == 1;
#else
    (void)pem;
    return 0;
#endif
}

int main(int count, char **words) {
    if (count != 2 && count != 3) return 2;
    folder = words[1];
    signal(SIGPIPE, SIG_IGN);
    if (count == 3 && !secure(words[2])) return 2;
    load_parts();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event events[512], event = {.events = EPOLLIN, .data.fd = listener};
    Peer input = {.fd = 0}, door = {.fd = listener};
    event.data.ptr = &door;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &input;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        int wait = -1;
        if (paced_count) {
            long long first = paced[0]->due;
            for (int i = 1; i < paced_count; i++)
                if (paced[i]->due < first) first = paced[i]->due;
            wait = (int)((first - now() + 999999) / 1000000);
            if (wait < 0) wait = 0;
        }
        int ready = epoll_wait(poller, events, 512, wait);
        for (int i = 0; i < ready; i++) {
            Peer *peer = events[i].data.ptr;
            if (peer == &input) return 0; /* whoever started us is gone */
            if (peer == &door) {
                greet(listener);
                continue;
            }
            int bad = 0;
            if (events[i].events & EPOLLOUT) {
                bad = push(peer);
                if (!bad && !peer->left) watch(peer, EPOLL_CTL_MOD, EPOLLIN);
            }
            if (!bad && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) bad = readable(peer);
            if (bad) drop(peer);
        }
        if (paced_count) pace(now());
    }
}

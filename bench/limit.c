/* The limit: the work of a small chat done in C, without decoding.
 *
 *   limit PORT REQUEST IN_FLIGHT     reads numbers of calls from its standard input, a line each; after each prints what
 *                                    they cost: CPU seconds (user and system) of this process
 *
 * REQUEST is a file with a request as it goes over the wire. The end of an answer is found by its Content-Length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1 << 16 };

typedef struct {
    int fd;
    size_t have;
    char in[ROOM];
} Peer;

static char request[ROOM];
static size_t request_size;

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void ask(Peer *peer) {
    peer->have = 0;
    if (send(peer->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) exit(1);
}

/* Whether a whole answer is there. */
static int answered(Peer *peer) {
    ssize_t got = recv(peer->fd, peer->in + peer->have, ROOM - 1 - peer->have, 0);
    if (got <= 0) exit(1);
    peer->have += got;
    peer->in[peer->have] = 0;
    char *end = memmem(peer->in, peer->have, "\r\n\r\n", 4);
    if (!end) return 0;
    char *length = strcasestr(peer->in, "\r\ncontent-length:");
    if (!length || length > end) exit(1);
    return peer->have >= (size_t)(end + 4 - peer->in) + strtoul(length + 17, NULL, 10);
}

static void run(int poller, Peer *peers, int in_flight, long calls) {
    struct epoll_event events[512];
    long begun = 0, done = 0;
    for (; begun < in_flight && begun < calls; begun++) ask(&peers[begun]);
    while (done < calls) {
        int ready = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            Peer *peer = events[i].data.ptr;
            if (!answered(peer)) continue;
            done++;
            if (begun < calls) {
                begun++;
                ask(peer);
            }
        }
    }
}

int main(int count, char **words) {
    if (count != 4) return 2;
    FILE *file = fopen(words[2], "rb");
    if (!file) return 2;
    request_size = fread(request, 1, ROOM, file);
    int in_flight = atoi(words[3]), poller = epoll_create1(0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Peer *peers = calloc(in_flight, sizeof *peers);
    for (int i = 0; i < in_flight; i++) {
        peers[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(peers[i].fd, (struct sockaddr *)&address, sizeof address)) return 1;
        setsockopt(peers[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, peers[i].fd, &event);
    }
    long calls;
    while (scanf("%ld", &calls) == 1) {
        double before = cpu();
        run(poller, peers, in_flight, calls);
        printf("%.9f\n", cpu() - before);
        fflush(stdout);
    }
    return 0;
}

/* The clients of the generator: sockets on one epoll, WebSocket framing, answers of HTTP servers, and what is counted. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

enum { BUFFER = 1 << 17, MAX_EVENTS = 512 };
enum field { ROLE, SOURCE, HOST, PORT, PATH, SUBPROTOCOL, WHEN_READY, FIRST, PING, PONG, ACK, FIELDS };
enum state { WAITING, CONNECTING, UPGRADING, STARTING, READY, GONE };

struct client {
    char *field[FIELDS];
    int fd;
    enum state state;
    char *rest; /* the unfinished tail of what was read */
    size_t held;
    int asked; /* H: an answer is awaited */
};

static struct client *clients;
static size_t count, started, ready, gone;
static int poller;
static uint64_t deliveries, acks, sent, next_id;
static struct histogram latencies;
static uint64_t arrived; /* when the bytes that are being looked at were read; 0: nobody times them */
static char scratch[2 * BUFFER];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what) {
    fprintf(stderr, "generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void drop(struct client *c) {
    if (c->state == GONE) return;
    if (c->fd >= 0) close(c->fd);
    c->state = GONE;
    gone++;
}

static void put(struct client *c, const char *data, size_t size) {
    while (size) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { usleep(100); continue; }
        if (n < 0) { drop(c); return; }
        data += n;
        size -= (size_t)n;
    }
}

/* A masked text frame; the key is zero, so the payload goes out as it is. */
static size_t frame(char *out, const char *payload, size_t size) {
    size_t head = 2;
    out[0] = (char)0x81;
    if (size < 126) out[1] = (char)(0x80 | size);
    else { out[1] = (char)(0x80 | 126); out[2] = (char)(size >> 8); out[3] = (char)size; head = 4; }
    memset(out + head, 0, 4);
    memcpy(out + head + 4, payload, size);
    return head + 4 + size;
}

static void say(struct client *c, const char *payload, size_t size) {
    static char out[BUFFER + 16];
    put(c, out, frame(out, payload, size));
}

static void begin(struct client *c) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    inet_pton(AF_INET, c->field[SOURCE], &from.sin_addr);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    inet_pton(AF_INET, c->field[HOST], &to.sin_addr);
    to.sin_port = htons((uint16_t)atoi(c->field[PORT]));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    c->state = CONNECTING;
}

static void become_ready(struct client *c) {
    c->state = READY;
    ready++;
}

static void upgrade(struct client *c) {
    static char head[BUFFER];
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    int none = *c->field[SUBPROTOCOL] == '-';
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                     c->field[PATH], c->field[HOST], c->field[PORT], none ? "" : "Sec-WebSocket-Protocol: ",
                     none ? "" : c->field[SUBPROTOCOL], none ? "" : "\r\n");
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    if (*c->field[ROLE] == 'H') { become_ready(c); return; }
    c->state = UPGRADING;
    put(c, head, (size_t)n);
}

static void upgraded(struct client *c) {
    c->state = STARTING;
    if (strcmp(c->field[FIRST], "-"))
        for (char *at = c->field[FIRST], *next; at; at = next ? next + 1 : NULL) {
            next = strchr(at, 0x1d);
            say(c, at, next ? (size_t)(next - at) : strlen(at));
        }
    if (!strcmp(c->field[WHEN_READY], "-")) become_ready(c);
}

static int begins(const char *payload, size_t size, const char *with) {
    size_t length = strlen(with);
    return size >= length && !memcmp(payload, with, length);
}

static void time_delivery(const char *payload, size_t size) {
    const char *at = memmem(payload, size, "\"t\":", 4), *end = payload + size;
    uint64_t intended = 0;
    if (at)
        for (at += 4; at < end && *at >= '0' && *at <= '9'; at++) intended = intended * 10 + (uint64_t)(*at - '0');
    if (intended) histogram_add(&latencies, arrived > intended ? (arrived - intended) / 1000 : 0);
}

static void message(struct client *c, const char *payload, size_t size) {
    if (size == strlen(c->field[PING]) && begins(payload, size, c->field[PING])) {
        say(c, c->field[PONG], strlen(c->field[PONG]));
        return;
    }
    if (c->state == STARTING && memmem(payload, size, c->field[WHEN_READY], strlen(c->field[WHEN_READY]))) {
        become_ready(c);
        return;
    }
    if (c->state != READY) return;
    if (*c->field[ROLE] == 'S') {
        deliveries++;
        if (arrived) time_delivery(payload, size);
    } else if (begins(payload, size, c->field[ACK])) acks++;
}

/* Take whole frames off the front; return how many bytes they were. */
static size_t frames(struct client *c, const char *data, size_t size) {
    size_t at = 0;
    while (size - at >= 2) {
        const unsigned char *p = (const unsigned char *)data + at;
        size_t length = p[1] & 127, head = 2;
        if (length == 126) {
            if (size - at < 4) break;
            length = (size_t)p[2] << 8 | p[3];
            head = 4;
        } else if (length == 127) {
            if (size - at < 10) break;
            length = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
            head = 10;
        }
        if (size - at < head + length) break;
        if ((p[0] & 15) == 8) {
            int code = length < 2 ? 1005 : p[head] << 8 | p[head + 1];
            fprintf(stderr, "generator: closed with %d %.*s\n", code, length < 2 ? 0 : (int)length - 2, p + head + 2);
            drop(c);
            return size;
        }
        if ((p[0] & 15) == 1) message(c, data + at + head, length);
        at += head + length;
    }
    return at;
}

/* Take whole answers to requests off the front; return how many bytes they were. */
static size_t answers(struct client *c, const char *data, size_t size) {
    size_t at = 0;
    for (char *end; (end = memmem(data + at, size - at, "\r\n\r\n", 4)); acks++) {
        char *body = end + 4, *length = NULL;
        *end = 0;
        length = strcasestr(data + at, "\r\ncontent-length:");
        *end = '\r';
        size_t whole = length ? strtoul(length + 17, NULL, 10) : 0, there = (size_t)(data + size - body);
        if (there < whole) break;
        if (memcmp(data + at + 9, "200", 3) || !begins(body, whole, c->field[ACK])) {
            fprintf(stderr, "generator: refused: %.*s\n", 200, body);
            drop(c);
            return size;
        }
        at = (size_t)(body - data) + whole;
        c->asked = 0;
    }
    return at;
}

static void take(struct client *c, char *data, size_t size) {
    size_t used;
    if (c->state == UPGRADING) {
        char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) { used = 0; goto keep; }
        if (size < 12 || memcmp(data + 9, "101", 3)) {
            fprintf(stderr, "generator: refused: %.*s\n", 60, data);
            drop(c);
            return;
        }
        upgraded(c);
        used = (size_t)(end - data) + 4;
        used += frames(c, data + used, size - used);
    } else used = *c->field[ROLE] == 'H' ? answers(c, data, size) : frames(c, data, size);
keep:
    if (c->state == GONE) return;
    c->held = size - used;
    if (c->held) {
        if (c->held > BUFFER) { drop(c); return; }
        if (!c->rest && !(c->rest = malloc(BUFFER))) die("malloc");
        memcpy(c->rest, data + used, c->held);
    } else if (c->rest) {
        free(c->rest);
        c->rest = NULL;
    }
}

static void readable(struct client *c) {
    if (c->held) memcpy(scratch, c->rest, c->held);
    ssize_t n = recv(c->fd, scratch + c->held, BUFFER, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        fprintf(stderr, "generator: lost a connection: %s\n", n ? strerror(errno) : "end of file");
        drop(c);
        return;
    }
    if (arrived) arrived = nanoseconds();
    take(c, scratch, c->held + (size_t)n);
}

static void turn(int timeout) {
    static struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(poller, events, MAX_EVENTS, timeout);
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (!c || c->state == GONE) continue; /* none: the clock of pace() */
        if (c->state == CONNECTING && events[i].events & EPOLLOUT) upgrade(c);
        else if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(c);
    }
}

/* What one core can do: a WebSocket server that only fans out, with one write() per frame and subscriber.
 *
 *   c_loop PORT
 *
 * A client of /subscribe gets what a client of /publish sends; the latter gets {"id":0} once all have got it. There is no
 * Redis, no token, no channel and nothing is counted: whatever a gateway does beside writing frames shows beside this.
 * Else it is a real server: it answers the key of the handshake, unmasks, bounds what it takes, answers pings and
 * closes, keeps what a full socket refuses and writes it later, and drops who falls 1 MiB behind. Any other path is
 * answered 200.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, BACKLOG = 1 << 20, MAX_EVENTS = 512, MAX_HEAD = 14, LISTENING = 4096 };
enum role { OPENING, SUBSCRIBER, PUBLISHER };
enum opcode { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

struct client {
    int fd;
    enum role role;
    size_t place;          /* among the subscribers */
    char *rest;            /* the unfinished tail of what was read */
    size_t held;
    char *waiting;         /* what the socket did not take yet */
    size_t from, to, room; /* its unwritten part, and its size */
    struct client *next;   /* of those to be freed after this turn */
};

static struct client **subscribers;
static size_t count, space;
static struct client *dropped;
static int poller;
static char scratch[2 * BUFFER];

static void die(const char *what) {
    fprintf(stderr, "c_loop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *must(void *memory) {
    if (!memory) die("memory");
    return memory;
}

/* ---- SHA-1 and base64, for the answer to the handshake's key */

static uint32_t turned(uint32_t x, int by) { return x << by | x >> (32 - by); }

static void sha1_block(uint32_t h[5], const unsigned char *p) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = turned(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
        uint32_t t = turned(a, 5) + f + e + k + w[i];
        e = d, d = c, c = turned(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Of at most 119 bytes: a key of 24 and the protocol's 36 are 60. */
static void sha1(const char *text, size_t size, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    unsigned char padded[128] = {0};
    size_t blocks = size < 56 ? 1 : 2;
    memcpy(padded, text, size);
    padded[size] = 0x80;
    padded[64 * blocks - 2] = (unsigned char)(size * 8 >> 8);
    padded[64 * blocks - 1] = (unsigned char)(size * 8);
    for (size_t i = 0; i < blocks; i++) sha1_block(h, padded + 64 * i);
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - i % 4 * 8));
}

static void base64_of_20(const unsigned char *in, char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = out;
    for (int i = 0; i < 21; i += 3) {
        uint32_t three = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | (i < 18 ? in[i + 2] : 0);
        for (int shift = 18; shift >= 0; shift -= 6) *at++ = letters[three >> shift & 63];
    }
    at[-1] = '='; /* 20 bytes are 27 letters */
    *at = 0;
}

/* ---- writing */

static void want(struct client *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
}

static void drop(struct client *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    if (c->role == SUBSCRIBER) {
        subscribers[c->place] = subscribers[--count];
        subscribers[c->place]->place = c->place;
    }
    c->next = dropped; /* an event of this turn may still name it */
    dropped = c;
}

static void keep(struct client *c, const char *data, size_t size) {
    if (c->to - c->from + size > BACKLOG) { drop(c); return; }
    if (c->from == c->to) {
        c->from = c->to = 0;
        want(c, EPOLLIN | EPOLLOUT);
    }
    if (c->to + size > c->room) {
        if (c->from) memmove(c->waiting, c->waiting + c->from, c->to - c->from);
        c->to -= c->from;
        c->from = 0;
        while (c->to + size > c->room) c->room = c->room ? 2 * c->room : 4096;
        c->waiting = must(realloc(c->waiting, c->room));
    }
    memcpy(c->waiting + c->to, data, size);
    c->to += size;
}

static void put(struct client *c, const char *data, size_t size) {
    if (c->fd < 0) return;
    if (c->from == c->to) {
        ssize_t n = write(c->fd, data, size);
        if (n < 0 && errno != EAGAIN) { drop(c); return; }
        if (n < 0) n = 0;
        data += n;
        size -= (size_t)n;
    }
    if (size) keep(c, data, size);
}

static void writable(struct client *c) {
    ssize_t n = write(c->fd, c->waiting + c->from, c->to - c->from);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) { drop(c); return; }
    c->from += (size_t)n;
    if (c->from < c->to) return;
    free(c->waiting);
    c->waiting = NULL;
    c->from = c->to = c->room = 0;
    want(c, EPOLLIN);
}

static size_t frame(char *out, enum opcode opcode, const char *payload, size_t size) {
    size_t head = 2;
    out[0] = (char)(0x80 | opcode);
    if (size < 126) out[1] = (char)size;
    else { out[1] = 126; out[2] = (char)(size >> 8); out[3] = (char)size; head = 4; }
    memcpy(out + head, payload, size);
    return head + size;
}

static void publish(struct client *c, const char *payload, size_t size) {
    static char out[BUFFER + MAX_HEAD];
    size_t length = frame(out, TEXT, payload, size);
    for (size_t i = count; i--;) put(subscribers[i], out, length); /* from the end: who is dropped is replaced by it */
    put(c, out, frame(out, TEXT, "{\"id\":0}", 8));
}

/* ---- reading */

static void message(struct client *c, int opcode, const char *payload, size_t size) {
    char out[128 + MAX_HEAD];
    if (opcode == TEXT && c->role == PUBLISHER) publish(c, payload, size);
    else if (opcode == PING && size < 126) put(c, out, frame(out, PONG, payload, size));
    else if (opcode == CLOSE) {
        put(c, out, frame(out, CLOSE, payload, size < 2 ? 0 : 2));
        drop(c);
    } else if (opcode != TEXT && opcode != PONG) drop(c); /* fragments and binary: nobody here sends them */
}

/* Take whole frames off the front; return how many bytes they were. */
static size_t frames(struct client *c, char *data, size_t size) {
    size_t at = 0;
    while (c->fd >= 0 && size - at >= 6) {
        unsigned char *p = (unsigned char *)data + at;
        size_t length = p[1] & 127, head = 6;
        if ((p[0] & 0xf0) != 0x80 || !(p[1] & 0x80) || length == 127) { drop(c); break; }
        if (length == 126) {
            length = (size_t)p[2] << 8 | p[3];
            head = 8;
        }
        if (head + length > BUFFER) { drop(c); break; }
        if (size - at < head + length) break;
        for (size_t i = 0; i < length; i++) p[head + i] ^= p[head - 4 + i % 4];
        message(c, p[0] & 15, data + at + head, length);
        at += head + length;
    }
    return at;
}

static void join(struct client *c) {
    if (count == space) {
        space = space ? 2 * space : 1024;
        subscribers = must(realloc(subscribers, space * sizeof *subscribers));
    }
    c->role = SUBSCRIBER;
    c->place = count;
    subscribers[count++] = c;
}

static void upgrade(struct client *c, const char *head) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", field[] = "\r\nSec-WebSocket-Key:";
    const char *key = strcasestr(head, field);
    char text[128], answer[29], reply[256];
    unsigned char digest[20];
    int subscribes = !strncmp(head, "GET /subscribe ", 15), publishes = !strncmp(head, "GET /publish ", 13);
    if (!key || !(subscribes || publishes)) {
        put(c, reply, (size_t)sprintf(reply, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        drop(c);
        return;
    }
    key += sizeof field - 1;
    key += strspn(key, " ");
    int size = snprintf(text, sizeof text, "%.24s%s", key, guid);
    sha1(text, (size_t)size, digest);
    base64_of_20(digest, answer);
    put(c, reply, (size_t)sprintf(reply, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                         "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", answer));
    if (publishes) c->role = PUBLISHER;
    else if (c->fd >= 0) join(c);
}

static size_t take(struct client *c, char *data, size_t size) {
    size_t used = 0;
    if (c->role == OPENING) {
        char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) return 0;
        *end = 0;
        upgrade(c, data);
        used = (size_t)(end - data) + 4;
    }
    return used + frames(c, data + used, size - used);
}

static void readable(struct client *c) {
    if (c->held) memcpy(scratch, c->rest, c->held);
    ssize_t n = read(c->fd, scratch + c->held, BUFFER);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { drop(c); return; }
    size_t size = c->held + (size_t)n, used = take(c, scratch, size);
    free(c->rest);
    c->rest = NULL;
    c->held = c->fd < 0 ? 0 : size - used;
    if (c->held > BUFFER) { drop(c); return; }
    if (c->held) c->rest = memcpy(must(malloc(c->held)), scratch + used, c->held);
}

static void accept_all(int listener) {
    for (;;) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR)) continue;
        if (fd < 0 && errno == EAGAIN) return;
        if (fd < 0) die("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct client *c = must(calloc(1, sizeof *c));
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        c->fd = fd;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
}

static void free_dropped(void) {
    while (dropped) {
        struct client *c = dropped;
        dropped = c->next;
        free(c->rest);
        free(c->waiting);
        free(c);
    }
}

static int listen_on(int port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event e = {.events = EPOLLIN};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, LISTENING)) die("listen");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    return fd;
}

int main(int argc, char **argv) {
    static struct epoll_event events[MAX_EVENTS];
    if (argc != 2) { fprintf(stderr, "usage: c_loop PORT\n"); return 2; }
    signal(SIGPIPE, SIG_IGN); /* who is gone shows as an error of write() */
    poller = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));
    for (;;) {
        int n = epoll_wait(poller, events, MAX_EVENTS, -1);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (!c) { accept_all(listener); continue; }
            if (c->fd >= 0 && events[i].events & EPOLLOUT) writable(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(c);
        }
        free_dropped();
    }
}

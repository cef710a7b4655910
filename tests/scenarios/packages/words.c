/* Counts the words of its standard input. Compiled in 16 parts (PART), each of which holds the table for words of other lengths,
 * with a hash function for every first letter; part 0 holds the program as well. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 4096

struct entry {
    char word[64];
    unsigned long count;
};

#define NAME2(part) count##part
#define NAME1(part) NAME2(part)
#define NAME NAME1(PART)

static struct entry table[SIZE];

/* FNV-1a, begun with another number for each letter. */
#define HASH(letter)                                                                                                   \
    static unsigned hash_##letter(const char *word) {                                                                  \
        static const char begin[] = #letter;                                                                           \
        unsigned value = 2166136261u ^ (unsigned)(begin[0] << PART);                                                   \
        for (size_t i = 0; i < strlen(word); i++)                                                                      \
            value = (value ^ (unsigned char)word[i]) * 16777619u;                                                      \
        return value % SIZE;                                                                                           \
    }
#define LETTERS(DO)                                                                                                    \
    DO(a) DO(b) DO(c) DO(d) DO(e) DO(f) DO(g) DO(h) DO(i) DO(j) DO(k) DO(l) DO(m)                                      \
    DO(n) DO(o) DO(p) DO(q) DO(r) DO(s) DO(t) DO(u) DO(v) DO(w) DO(x) DO(y) DO(z)
LETTERS(HASH)
#define POINTER(letter) hash_##letter,
static unsigned (*const hashes[])(const char *) = {LETTERS(POINTER)};

static int compare(const void *one, const void *other) {
    const struct entry *a = one, *b = other;
    return a->count == b->count ? strcmp(a->word, b->word) : a->count < b->count ? 1 : -1;
}

/* Counts a word; of none, prints what there is. */
int NAME(const char *word) {
    if (!word) {
        qsort(table, SIZE, sizeof *table, compare);
        for (unsigned i = 0; i < SIZE && table[i].count; i++)
            printf("%lu %s\n", table[i].count, table[i].word);
        return 0;
    }
    unsigned at = hashes[(unsigned char)word[0] % 26](word);
    for (unsigned tried = 0; tried < SIZE; tried++, at = (at + 1) % SIZE) {
        if (!table[at].count)
            snprintf(table[at].word, sizeof table[at].word, "%s", word);
        if (!strcmp(table[at].word, word)) {
            table[at].count++;
            return 1;
        }
    }
    return -1;
}

#if PART == 0
typedef int part(const char *word);
part count1, count2, count3, count4, count5, count6, count7, count8, count9, count10, count11, count12, count13, count14, count15;

int main(void) {
    static part *const parts[] = {count0, count1, count2, count3, count4, count5, count6, count7,
                                  count8, count9, count10, count11, count12, count13, count14, count15};
    char word[64];
    int c, length = 0;
    do {
        c = getchar();
        if (c != EOF && isalnum(c) && length < 63) {
            word[length++] = (char)tolower(c);
        } else if (length) {
            word[length] = 0;
            if (parts[length % 16](word) < 0)
                return 1;
            length = 0;
        }
    } while (c != EOF);
    for (int i = 0; i < 16; i++)
        parts[i](NULL);
    return 0;
}
#endif

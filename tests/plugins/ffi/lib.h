/* tests/plugins/ffi/lib.h - what libffitest offers. */
#ifndef EXJ_TESTS_PLUGINS_FFI_LIB_H
#define EXJ_TESTS_PLUGINS_FFI_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum ft_mode { FT_FAST, FT_SAFE, FT_ODD = 40 };

struct ft_point {
    double x, y;
    int8_t weight;
    enum ft_mode mode;
};

struct ft_small {
    int8_t a;
    int16_t b;
};

struct ft_bits {
    unsigned a : 3, b : 5;
};

struct ft_counter;
union ft_either;

extern int ft_data, ft_alive;

bool ft_bool(bool a);
int8_t ft_i8(int8_t a);
uint8_t ft_u8(uint8_t a);
int16_t ft_i16(int16_t a);
uint16_t ft_u16(uint16_t a);
int32_t ft_i32(int32_t a);
uint32_t ft_u32(uint32_t a);
int64_t ft_i64(int64_t a);
uint64_t ft_u64(uint64_t a);
float ft_f32(float a);
double ft_f64(double a);
enum ft_mode ft_mode(enum ft_mode a);
int8_t ft_negate(int8_t a);
double ft_mix(int8_t a, uint16_t b, float c, int64_t d, double e, bool f, uint32_t g, int16_t h,
              uint8_t i, int32_t j);
size_t ft_strlen(const char *s);
uint64_t ft_sum(const unsigned char *p, size_t n);
uint64_t ft_sum_short(const unsigned char *p, uint8_t n);
double ft_norm(struct ft_point p);
struct ft_point ft_mirror(struct ft_point p);
double ft_norm_at(const struct ft_point *p);
void ft_scale(struct ft_point *p, double by);
struct ft_small ft_small(int8_t a, int16_t b);
int ft_divide(int a, int b, int *quotient, int *rest);
int ft_add_to(int64_t *sum, int32_t by);
int ft_describe(const char *text, char *to, size_t *n);
int ft_lies(char *to, size_t *n);
void ft_overrun(char *to, size_t n);
void ft_fill(char *to, size_t n);
int ft_copy(char *to, size_t cap, const char *from);
ssize_t ft_read(void *to, size_t cap, int n);
const char *ft_static_name(int which);
char *ft_new_text(const char *from);
void ft_free(void *p);
int ft_alive_now(void);
unsigned char *ft_new_bytes(uint32_t n, uint32_t *len);
int ft_complain(const char *what, char **why);
int ft_open(int start, struct ft_counter **ret);
struct ft_counter *ft_make(int start);
int ft_count(struct ft_counter *c, int by);
struct ft_counter *ft_same(struct ft_counter *c);
void ft_shout(char *s);
void ft_close(struct ft_counter *c);
int ft_end(struct ft_counter *c);
int ft_set_errno(int e);
int64_t ft_sum_all(int n, ...);
double ft_pick(int which, ...);
double ft_infinite(void);
enum ft_mode ft_result(int n);
void ft_nothing(void);
int ft_alone(void);
int ft_union(union ft_either e);
long double ft_long(long double a);
int ft_bits(struct ft_bits b);

#endif /* EXJ_TESTS_PLUGINS_FFI_LIB_H */

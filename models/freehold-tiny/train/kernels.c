/*
 * The parts of a training step that are not matrix products, for one CPU core: attention that looks at one document at a
 * time, the gate of the feed-forward layer, and the norm. kernels.py compiles this file and model.py falls back to plain
 * PyTorch where no compiler is. Width of a head: 32.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 32
#define LANES 16
#define ROWS 8

typedef float vec __attribute__((vector_size(64), aligned(4)));

static vec load(const float *p) { return *(const vec *)p; }
static void store(float *p, vec v) { *(vec *)p = v; }
static int padded(int length) { return (length + LANES - 1) / LANES * LANES; }

/* S[i][j] = X_i . Y_j for all blocks of 16 columns that reach below the diagonal; yt is Y transposed. */
static void scores(const float *x, const float *yt, float *s, int n) {
  for (int i = 0; i < n; i += ROWS)
    for (int j = 0; j <= i + ROWS - 1; j += LANES) {
      vec sum[ROWS] = {0};
      for (int d = 0; d < HEAD; d++) {
        vec y = load(yt + d * n + j);
        for (int r = 0; r < ROWS; r++) sum[r] += x[(i + r) * HEAD + d] * y;
      }
      for (int r = 0; r < ROWS; r++) store(s + (i + r) * n + j, sum[r]);
    }
}

/* out_i = sum over j <= i of P[i][j] V_j */
static void gather(const float *p, const float *v, float *out, int n) {
  for (int i = 0; i < n; i += ROWS) {
    vec low[ROWS] = {0}, high[ROWS] = {0};
    for (int j = 0; j <= i + ROWS - 1; j++) {
      vec a = load(v + j * HEAD), b = load(v + j * HEAD + LANES);
      for (int r = 0; r < ROWS; r++) {
        float w = p[(i + r) * n + j];
        low[r] += w * a;
        high[r] += w * b;
      }
    }
    for (int r = 0; r < ROWS; r++) {
      store(out + (i + r) * HEAD, low[r]);
      store(out + (i + r) * HEAD + LANES, high[r]);
    }
  }
}

/* out_j = sum over i >= j of P[i][j] V_i */
static void scatter(const float *p, const float *v, float *out, int n) {
  for (int j = 0; j < n; j += ROWS) {
    vec low[ROWS] = {0}, high[ROWS] = {0};
    for (int i = j; i < n; i++) {
      vec a = load(v + i * HEAD), b = load(v + i * HEAD + LANES);
      for (int r = 0; r < ROWS; r++) {
        float w = p[i * n + j + r];
        low[r] += w * a;
        high[r] += w * b;
      }
    }
    for (int r = 0; r < ROWS; r++) {
      store(out + (j + r) * HEAD, low[r]);
      store(out + (j + r) * HEAD + LANES, high[r]);
    }
  }
}

static void transpose(const float *x, float *xt, int n) {
  for (int i = 0; i < n; i++)
    for (int d = 0; d < HEAD; d++) xt[d * n + i] = x[i * HEAD + d];
}

/* Rows of one head, rotated by their position (turn: cos, sin per pair), times scale; rows behind the end are zero. */
static void take(const float *from, int stride, const float *turn, float scale, float *to, int length, int n) {
  for (int i = 0; i < length; i++) {
    const float *x = from + (int64_t)i * stride;
    float *y = to + i * HEAD;
    if (turn == NULL) {
      memcpy(y, x, HEAD * sizeof(float));
      continue;
    }
    const float *t = turn + i * HEAD;
    for (int d = 0; d < HEAD; d += 2) {
      y[d] = (x[d] * t[d] - x[d + 1] * t[d + 1]) * scale;
      y[d + 1] = (x[d] * t[d + 1] + x[d + 1] * t[d]) * scale;
    }
  }
  memset(to + length * HEAD, 0, (size_t)(n - length) * HEAD * sizeof(float));
}

/* The way back of take(): rotates by the opposite angle. */
static void give(const float *from, const float *turn, float scale, float *to, int stride, int length) {
  for (int i = 0; i < length; i++) {
    const float *x = from + i * HEAD;
    float *y = to + (int64_t)i * stride;
    if (turn == NULL) {
      memcpy(y, x, HEAD * sizeof(float));
      continue;
    }
    const float *t = turn + i * HEAD;
    for (int d = 0; d < HEAD; d += 2) {
      y[d] = (x[d] * t[d] + x[d + 1] * t[d + 1]) * scale;
      y[d + 1] = (x[d + 1] * t[d] - x[d] * t[d + 1]) * scale;
    }
  }
}

/* Floats that attention keeps of all documents for its way back. */
int64_t attention_kept(const int32_t *lengths, int documents, int heads) {
  int64_t sum = 0;
  for (int k = 0; k < documents; k++) sum += (int64_t)heads * padded(lengths[k]) * padded(lengths[k]);
  return sum;
}

/* qkv [tokens, 3 * heads * 32] -> out [tokens, heads * 32]; documents follow one another; kept: the softmax's results. */
void attention(const float *qkv, const float *turns, const int32_t *lengths, int documents, int heads, float *out, float *kept) {
  int longest = 0;
  for (int k = 0; k < documents; k++)
    if (lengths[k] > longest) longest = lengths[k];
  size_t size = (size_t)padded(longest) * HEAD;
  float *room = aligned_alloc(64, 5 * size * sizeof(float));
  float *q = room, *key = q + size, *kt = key + size, *v = kt + size, *o = v + size;
  int width = heads * HEAD, stride = 3 * width;
  const float scale = 1 / sqrtf(HEAD);
  for (int k = 0; k < documents; k++) {
    int length = lengths[k], n = padded(length);
    for (int h = 0; h < heads; h++) {
      take(qkv + h * HEAD, stride, turns, scale, q, length, n);
      take(qkv + width + h * HEAD, stride, turns, 1, key, length, n);
      take(qkv + 2 * width + h * HEAD, stride, NULL, 1, v, length, n);
      transpose(key, kt, n);
      scores(q, kt, kept, n);
      for (int i = 0; i < n; i++) {
        float *p = kept + (int64_t)i * n;
        int end = (i / LANES + 1) * LANES;
        float most = p[0], sum = 0;
        for (int j = i + 1; j < end; j++) p[j] = -1e30f;
        for (int j = 0; j < end; j++) most = p[j] > most ? p[j] : most;
        for (int j = 0; j < end; j++) p[j] = expf(p[j] - most);
        for (int j = i + 1; j < end; j++) p[j] = 0;
        for (int j = 0; j < end; j++) sum += p[j];
        float share = 1 / sum;
        for (int j = 0; j < end; j++) p[j] *= share;
      }
      gather(kept, v, o, n);
      for (int i = 0; i < length; i++) memcpy(out + (int64_t)i * width + h * HEAD, o + i * HEAD, HEAD * sizeof(float));
      kept += (int64_t)n * n;
    }
    qkv += (int64_t)length * stride;
    out += (int64_t)length * width;
  }
  free(room);
}

void attention_back(const float *qkv, const float *turns, const int32_t *lengths, int documents, int heads, const float *kept,
                    const float *gradient, float *back) {
  int longest = 0;
  for (int k = 0; k < documents; k++)
    if (lengths[k] > longest) longest = lengths[k];
  size_t size = (size_t)padded(longest) * HEAD, square = (size_t)padded(longest) * padded(longest);
  float *room = aligned_alloc(64, (6 * size + square) * sizeof(float));
  float *q = room, *key = q + size, *v = key + size, *vt = v + size, *g = vt + size, *o = g + size, *s = o + size;
  int width = heads * HEAD, stride = 3 * width;
  const float scale = 1 / sqrtf(HEAD);
  for (int k = 0; k < documents; k++) {
    int length = lengths[k], n = padded(length);
    for (int h = 0; h < heads; h++) {
      take(qkv + h * HEAD, stride, turns, scale, q, length, n);
      take(qkv + width + h * HEAD, stride, turns, 1, key, length, n);
      take(qkv + 2 * width + h * HEAD, stride, NULL, 1, v, length, n);
      take(gradient + h * HEAD, width, NULL, 1, g, length, n);
      transpose(v, vt, n);
      scatter(kept, g, o, n);
      give(o, NULL, 1, back + 2 * width + h * HEAD, stride, length);
      scores(g, vt, s, n);
      for (int i = 0; i < n; i++) {
        const float *p = kept + (int64_t)i * n;
        float *x = s + (int64_t)i * n, along = 0;
        int end = (i / LANES + 1) * LANES;
        for (int j = 0; j < end; j++) along += p[j] * x[j];
        for (int j = 0; j < end; j++) x[j] = p[j] * (x[j] - along);
      }
      gather(s, key, o, n);
      give(o, turns, scale, back + h * HEAD, stride, length);
      scatter(s, q, o, n);
      give(o, turns, 1, back + width + h * HEAD, stride, length);
      kept += (int64_t)n * n;
    }
    qkv += (int64_t)length * stride;
    back += (int64_t)length * stride;
    gradient += (int64_t)length * width;
  }
  free(room);
}

/* both [tokens, 2 * ffn] -> out [tokens, ffn] = silu(gate) * up */
void gate(const float *both, float *out, int64_t tokens, int ffn) {
  for (int64_t t = 0; t < tokens; t++) {
    const float *g = both + t * 2 * ffn, *u = g + ffn;
    float *o = out + t * ffn;
    for (int i = 0; i < ffn; i++) o[i] = g[i] * u[i] / (1 + expf(-g[i]));
  }
}

void gate_back(const float *both, const float *gradient, float *back, int64_t tokens, int ffn) {
  for (int64_t t = 0; t < tokens; t++) {
    const float *g = both + t * 2 * ffn, *u = g + ffn, *d = gradient + t * ffn;
    float *dg = back + t * 2 * ffn, *du = dg + ffn;
    for (int i = 0; i < ffn; i++) {
      float s = 1 / (1 + expf(-g[i]));
      du[i] = d[i] * g[i] * s;
      dg[i] = d[i] * u[i] * s * (1 + g[i] * (1 - s));
    }
  }
}

/* out = x / rms(x) * weight; inverse keeps 1 / rms of every row. */
void norm(const float *x, const float *weight, float epsilon, float *out, float *inverse, int64_t tokens, int width) {
  for (int64_t t = 0; t < tokens; t++) {
    const float *a = x + t * width;
    float *o = out + t * width, sum = 0;
    for (int i = 0; i < width; i++) sum += a[i] * a[i];
    float r = inverse[t] = 1 / sqrtf(sum / width + epsilon);
    for (int i = 0; i < width; i++) o[i] = a[i] * r * weight[i];
  }
}

/* weight_back must come zeroed. */
void norm_back(const float *x, const float *weight, const float *inverse, const float *gradient, float *back, float *weight_back,
               int64_t tokens, int width) {
  for (int64_t t = 0; t < tokens; t++) {
    const float *a = x + t * width, *d = gradient + t * width;
    float *b = back + t * width, r = inverse[t], along = 0;
    for (int i = 0; i < width; i++) along += d[i] * weight[i] * a[i];
    along *= r * r / width;
    for (int i = 0; i < width; i++) {
      weight_back[i] += d[i] * a[i] * r;
      b[i] = (d[i] * weight[i] - a[i] * along) * r;
    }
  }
}

/* Where values and gradients of a step of training lie in memory. See train_steps.h.
**
** Time runs once through all steps forward, then backward; each piece has a first and a last time.
** Pieces are placed as in graph_plan.c. */
#include "gpu/train_steps.h"

#include <stdlib.h>

enum { ALIGN_BYTES = 64 };

int64_t train_value_elements(const TrainValue *value)
{
    return (int64_t)value->c * value->h * value->w;
}

static int32_t add_piece(TrainSteps *s, int64_t bytes, int32_t first)
{
    ASSERT(s->n_pieces < TRAIN_MAX_PIECES);
    bytes = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    s->pieces[s->n_pieces] = (TrainPiece){.bytes = bytes, .first = first, .last = first};
    return s->n_pieces++;
}

static void keep(TrainSteps *s, int32_t piece, int32_t until)
{
    if (until > s->pieces[piece].last)
        s->pieces[piece].last = until;
}

static int64_t value_bytes(const TrainSteps *s, int32_t v, int32_t batch)
{
    return train_value_elements(&s->values[v]) * s->values[v].element_bytes * batch;
}

/* Values live from the step that makes them to the last that reads them, forward or backward. */
static void add_values(TrainSteps *s, int32_t batch, bool frozen)
{
    s->values[s->input].piece = add_piece(s, value_bytes(s, s->input, batch), -1);
    for (int32_t i = 0; i < s->n_steps; i++) {
        TrainStep *step = &s->steps[i];
        TrainValue *out = &s->values[step->output];
        int32_t back = 2 * s->n_steps - 1 - i;
        bool reads_x = !frozen && (step->kind == STEP_CONV || step->kind == STEP_NORM);
        out->piece = add_piece(s, value_bytes(s, step->output, batch), i);
        keep(s, s->values[step->input].piece, reads_x ? back : i);
        if (step->second >= 0)
            keep(s, s->values[step->second].piece, i);
        if (step->relu)
            keep(s, out->piece, back);
        step->workspace = -1;
        if (step->kind == STEP_POOL) {
            step->workspace = add_piece(s, train_value_elements(out) * batch, i);
            keep(s, step->workspace, back);
        }
    }
    keep(s, s->values[s->output].piece, s->n_steps);
}

static int32_t makes(const TrainSteps *s, int32_t v) /* the step that does; -1: the input */
{
    for (int32_t i = 0; i < s->n_steps; i++)
        if (s->steps[i].output == v)
            return i;
    return -1;
}

/* A part of value v's gradient, written at a time, read when the step that makes v runs back. */
static Status add_part(TrainSteps *s, int32_t v, int32_t batch, int32_t written, int32_t *ret,
                       Err *err)
{
    TrainValue *value = &s->values[v];
    if (value->n_parts == TRAIN_MAX_PARTS)
        return err_set(err, ST_UNSUPPORTED, "a value that more than %d operations read",
                       (int)TRAIN_MAX_PARTS);
    *ret = value->parts[value->n_parts++] = add_piece(s, value_bytes(s, v, batch), written);
    keep(s, *ret, 2 * s->n_steps - 1 - makes(s, v));
    return ST_OK;
}

static Status add_gradients(TrainSteps *s, int32_t batch, Err *err)
{
    int32_t of_output;
    TRY(add_part(s, s->output, batch, s->n_steps - 1, &of_output, err));
    for (int32_t i = s->n_steps - 1; i >= 0; i--) {
        TrainStep *step = &s->steps[i];
        int32_t back = 2 * s->n_steps - 1 - i;
        step->d_second = -1;
        TRY(add_part(s, step->input, batch, back, &step->d_input, err));
        if (step->second >= 0)
            TRY(add_part(s, step->second, batch, back, &step->d_second, err));
    }
    return ST_OK;
}

static int compare_sizes(const void *a, const void *b)
{
    const int64_t *x = a, *y = b; /* (size, index) */
    if (x[0] != y[0])
        return x[0] < y[0] ? 1 : -1;
    return x[1] < y[1] ? -1 : 1;
}

/* Lowest offset at which the piece meets none of those placed before it. */
static int64_t find_offset(const TrainSteps *s, int64_t (*order)[2], int32_t n_placed,
                           const TrainPiece *piece)
{
    int64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t i = 0; i < n_placed; i++) {
            const TrainPiece *p = &s->pieces[order[i][1]];
            if (p->first <= piece->last && piece->first <= p->last &&
                p->offset_bytes < offset + piece->bytes && offset < p->offset_bytes + p->bytes) {
                offset = p->offset_bytes + p->bytes;
                moved = true;
            }
        }
    }
    return offset;
}

static Status place(TrainSteps *s, Err *err)
{
    int64_t(*order)[2] = calloc((size_t)s->n_pieces, sizeof *order);
    if (order == NULL)
        return err_set(err, ST_NO_MEMORY, "placing %d pieces", s->n_pieces);
    for (int32_t i = 0; i < s->n_pieces; i++) {
        order[i][0] = s->pieces[i].bytes;
        order[i][1] = i;
    }
    qsort(order, (size_t)s->n_pieces, sizeof *order, compare_sizes);
    s->arena_bytes = 0;
    for (int32_t i = 0; i < s->n_pieces; i++) {
        TrainPiece *p = &s->pieces[order[i][1]];
        p->offset_bytes = find_offset(s, order, i, p);
        if (p->offset_bytes + p->bytes > s->arena_bytes)
            s->arena_bytes = p->offset_bytes + p->bytes;
    }
    free(order);
    return ST_OK;
}

Status train_plan(int32_t batch, int32_t element_bytes, bool frozen, TrainSteps *steps, Err *err)
{
    for (int32_t v = 0; v < steps->n_values; v++)
        steps->values[v].element_bytes = element_bytes;
    for (int32_t i = 0; i < steps->n_steps; i++)
        if (steps->steps[i].kind == STEP_TAPS)
            steps->values[steps->steps[i].output].element_bytes = (int32_t)sizeof(float);
    add_values(steps, batch, frozen);
    TRY(add_gradients(steps, batch, err));
    return place(steps, err);
}

/* The extension module sb3_ppo_variants._kernels: memory of a policy, and the kernels as Python functions. */
#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "kernels.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Memory ------------------------------------------------------------------------------------------------------ */

/* Zeros, aligned for every Vector; NULL if there is no memory */
static float *new_floats(Index count) {
    void *memory = NULL;
    const size_t size = (size_t)rounded_up(count, ALIGNMENT) * sizeof(float);
    if (posix_memalign(&memory, ALIGNMENT * sizeof(float), size)) return NULL;
    return memset(memory, 0, size);
}

static int renew(float **memory, Index count) {
    free(*memory);
    *memory = new_floats(count);
    return *memory != NULL;
}

static int reserve_network(Network *network, Index rows) {
    int done = renew(&network->input, rows * network->input_stride);
    for (Index l = 0; l < network->depth; l++)
        done &= renew(&network->layers[l].kept, rows * network->layers[l].stride);
    return done;
}

/* Make room for minibatches of `rows` */
static int reserve(Policy *policy, Index rows) {
    if (rows <= policy->capacity) return 1;
    const Index blocks_of_rows = rounded_up(rows, ALIGNMENT);
    policy->capacity = 0;
    policy->actor.rows = policy->critic.rows = 0;
    if (!reserve_network(&policy->actor, rows) || !reserve_network(&policy->critic, rows) ||
        !renew(&policy->head.kept, COLUMNS * policy->head.outputs * blocks_of_rows))
        return 0;
    policy->capacity = rows;
    return 1;
}

static int allocate_network(Network *network) {
    int done = 1;
    for (Index l = 0; l < network->depth; l++) {
        Layer *layer = &network->layers[l];
        layer->stride = rounded_up(layer->outputs, ALIGNMENT);
        if (layer->stride > network->widest) network->widest = layer->stride;
        done &= renew(&layer->forward_panels, layer->stride * (layer->inputs + 1));
        done &= renew(&layer->backward_panels, rounded_up(layer->inputs, ALIGNMENT) * layer->outputs);
    }
    network->input_stride = rounded_up(network->layers[0].inputs, ALIGNMENT);
    for (int i = 0; i < 2; i++) done &= renew(&network->scratch[i], CHUNK * network->widest);
    return done;
}

static void free_network(Network *network) {
    for (Index l = 0; network->layers && l < network->depth; l++) {
        free(network->layers[l].kept);
        free(network->layers[l].forward_panels);
        free(network->layers[l].backward_panels);
    }
    free(network->layers);
    free(network->input);
    free(network->scratch[0]);
    free(network->scratch[1]);
}

static void free_policy(Policy *policy) {
    free_network(&policy->actor);
    free_network(&policy->critic);
    free(policy->head.choices);
    free(policy->head.kept);
    free(policy->head.scratch);
    free(policy);
}

/* Python ---------------------------------------------------------------------------------------------- */
/* A policy is a capsule. Arrays come as addresses; that they have the type and the size, and stay alive, is for the
 * caller to see to (engines/kernels/compiled_kernels.py). An address of 0 stands for an array that is not given. */

static const char *const CAPSULE = "sb3_ppo_variants._kernels.Policy";

/* The kernels that this processor can run, best first; returns how many */
static int available(const struct Kernels *found[3]) {
    int count = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        found[count++] = &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[count++] = &kernels_avx2;
#endif
    found[count++] = &kernels_baseline;
    return count;
}

static const struct Kernels *kernels_named(const char *name) {
    const struct Kernels *found[3];
    for (int i = 0, count = available(found); i < count; i++)
        if (strcmp(found[i]->name, name) == 0) return found[i];
    PyErr_Format(PyExc_ValueError, "instructions '%s' are not among those of this processor", name);
    return NULL;
}

static PyObject *py_instruction_sets(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    const struct Kernels *found[3];
    const int count = available(found);
    PyObject *names = PyTuple_New(count);
    for (int i = 0; names && i < count; i++) {
        PyObject *name = PyUnicode_FromString(found[i]->name);
        if (name == NULL || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    return names;
}

static void capsule_destroyed(PyObject *capsule) { free_policy(PyCapsule_GetPointer(capsule, CAPSULE)); }

static void *address(PyObject *number) { return PyLong_AsVoidPtr(number); }

/* layers: a tuple of (inputs, outputs, weight, bias, activation), each a number; returns whether it could be read */
static int read_layers(PyObject *layers, Network *network) {
    network->depth = PyTuple_Size(layers);
    if (network->depth < 1) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a network needs a layer");
        return 0;
    }
    network->layers = calloc((size_t)network->depth, sizeof(Layer));
    if (network->layers == NULL) return PyErr_NoMemory() != NULL;
    for (Index l = 0; l < network->depth; l++) {
        Layer *layer = &network->layers[l];
        int activation;
        if (!PyArg_ParseTuple(PyTuple_GetItem(layers, l), "nnnni", &layer->inputs, &layer->outputs, &layer->weight,
                              &layer->bias, &activation))
            return 0;
        layer->activation = (Activation)activation;
        const int fits = layer->inputs > 0 && layer->outputs > 0 && layer->weight >= 0 && layer->bias >= 0 &&
                         layer->weight + layer->inputs * layer->outputs <= network->size &&
                         layer->bias + layer->outputs <= network->size && activation >= LINEAR && activation <= RELU;
        if (!fits || (l > 0 && layer->inputs != network->layers[l - 1].outputs)) {
            PyErr_Format(PyExc_ValueError, "layer %zd does not fit its network", l);
            return 0;
        }
    }
    return 1;
}

/* network: (layers, size, values, gradients, first moments, second moments), the last four as addresses */
static int read_network(PyObject *description, Network *network) {
    PyObject *layers;
    unsigned long long values, gradients, first, second;
    if (!PyArg_ParseTuple(description, "O!nKKKK", &PyTuple_Type, &layers, &network->size, &values, &gradients, &first,
                          &second) ||
        !read_layers(layers, network))
        return 0;
    network->values = (float *)(uintptr_t)values;
    network->gradients = (float *)(uintptr_t)gradients;
    network->first_moments = (float *)(uintptr_t)first;
    network->second_moments = (float *)(uintptr_t)second;
    return allocate_network(network) || PyErr_NoMemory() != NULL;
}

/* kind: 0 categorical, 1 Bernoulli, 2 Gaussian; choices: outputs of each part */
static int read_head(int kind, PyObject *choices, Policy *policy) {
    Head *head = &policy->head;
    const Index parts = PyTuple_Size(choices);
    if (parts < 0) return 0;
    head->kind = (Distribution)kind;
    head->choices = calloc((size_t)parts + 1, sizeof(Index));
    if (head->choices == NULL) return PyErr_NoMemory() != NULL;
    for (Index d = 0; d < parts; d++) {
        head->choices[d] = PyLong_AsSsize_t(PyTuple_GetItem(choices, d));
        if (head->choices[d] < 1) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a part of an action needs an output");
            return 0;
        }
        head->outputs += head->choices[d];
    }
    head->actions = kind == CATEGORICAL ? parts : head->outputs;
    const Network *actor = &policy->actor;
    const int log_std_fits = kind != GAUSSIAN || (head->log_std >= 0 && head->log_std + head->outputs <= actor->size);
    if (kind < CATEGORICAL || kind > GAUSSIAN || head->outputs != last_layer(actor)->outputs || !log_std_fits ||
        last_layer(&policy->critic)->outputs != 1 || actor->layers[0].inputs != policy->critic.layers[0].inputs) {
        PyErr_SetString(PyExc_ValueError, "the distribution and the networks do not fit each other");
        return 0;
    }
    head->scratch = new_floats(COLUMNS * head->outputs * ALIGNMENT);
    return head->scratch != NULL || PyErr_NoMemory() != NULL;
}

static PyObject *py_policy(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *instructions;
    PyObject *actor, *critic, *choices;
    int kind;
    Index log_std;
    if (!PyArg_ParseTuple(arguments, "sO!O!iO!n", &instructions, &PyTuple_Type, &actor, &PyTuple_Type, &critic, &kind,
                          &PyTuple_Type, &choices, &log_std))
        return NULL;
    const struct Kernels *kernels = kernels_named(instructions);
    if (kernels == NULL) return NULL;
    Policy *policy = calloc(1, sizeof(Policy));
    if (policy == NULL) return PyErr_NoMemory();
    policy->kernels = kernels;
    policy->head.log_std = log_std;
    PyObject *capsule = NULL;
    if (read_network(actor, &policy->actor) && read_network(critic, &policy->critic) &&
        read_head(kind, choices, policy))
        capsule = PyCapsule_New(policy, CAPSULE, capsule_destroyed);
    if (capsule == NULL) free_policy(policy);
    return capsule;
}

/* The policy among the arguments of a call, which must be `expected` many; NULL with an exception otherwise */
static Policy *policy_of(PyObject *const *arguments, Py_ssize_t count, Py_ssize_t expected) {
    if (count != expected) {
        PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, count);
        return NULL;
    }
    return PyCapsule_GetPointer(arguments[0], CAPSULE);
}

static PyObject *nothing_or_error(void) {
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

/* part: 0 actor, 1 critic */
static Network *part_of(Policy *policy, PyObject *part) {
    return PyLong_AsSsize_t(part) == 0 ? &policy->actor : &policy->critic;
}

static PyObject *py_forward(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    Policy *policy = policy_of(arguments, count, 5);
    if (policy == NULL) return NULL;
    Network *network = part_of(policy, arguments[1]);
    const Index rows = PyLong_AsSsize_t(arguments[2]);
    const float *x = address(arguments[3]);
    float *outputs = address(arguments[4]);
    if (!PyErr_Occurred()) policy->kernels->forward(network, rows, x, outputs);
    return nothing_or_error();
}

/* wide: observations in float64, written to x first; 0 where x has them */
static PyObject *py_act(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    Policy *policy = policy_of(arguments, count, 8);
    if (policy == NULL) return NULL;
    const Index rows = PyLong_AsSsize_t(arguments[1]);
    const double *wide = address(arguments[2]);
    float *x = address(arguments[3]);
    const float *noise = address(arguments[4]);
    void *actions = address(arguments[5]);
    float *values = address(arguments[6]), *log_probs = address(arguments[7]);
    if (PyErr_Occurred()) return NULL;
    if (wide) policy->kernels->narrow(rows * policy->actor.layers[0].inputs, wide, x);
    return PyBool_FromLong(policy->kernels->act(policy, rows, x, noise, actions, values, log_probs));
}

static PyObject *py_evaluate(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    Policy *policy = policy_of(arguments, count, 11);
    if (policy == NULL) return NULL;
    const Minibatch minibatch = {
        .rows = PyLong_AsSsize_t(arguments[1]),
        .x = address(arguments[2]),
        .actions = address(arguments[3]),
        .mean_noise = address(arguments[4]),
        .old_outputs = address(arguments[5]),
        .old_std = address(arguments[6]),
        .log_probs = address(arguments[7]),
        .entropies = address(arguments[8]),
        .kls = address(arguments[9]),
        .values = address(arguments[10]),
    };
    if (PyErr_Occurred()) return NULL;
    if (!reserve(policy, minibatch.rows)) return PyErr_NoMemory();
    return PyFloat_FromDouble(policy->kernels->evaluate(policy, &minibatch));
}

static PyObject *py_backward(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    Policy *policy = policy_of(arguments, count, 5);
    if (policy == NULL) return NULL;
    const Slopes slopes = {
        .log_probs = address(arguments[1]),
        .entropies = address(arguments[2]),
        .kls = address(arguments[3]),
        .values = address(arguments[4]),
    };
    if (PyErr_Occurred()) return NULL;
    return PyFloat_FromDouble(policy->kernels->backward(policy, &slopes));
}

static PyObject *py_adam(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    Policy *policy = policy_of(arguments, count, 8);
    if (policy == NULL) return NULL;
    const Network *network = part_of(policy, arguments[1]);
    const AdamStep step = {
        .step = PyLong_AsSsize_t(arguments[2]),
        .gradient_scale = PyFloat_AsDouble(arguments[3]),
        .learning_rate = PyFloat_AsDouble(arguments[4]),
        .beta1 = PyFloat_AsDouble(arguments[5]),
        .beta2 = PyFloat_AsDouble(arguments[6]),
        .epsilon = PyFloat_AsDouble(arguments[7]),
    };
    if (!PyErr_Occurred()) policy->kernels->adam(network, &step);
    return nothing_or_error();
}

static PyObject *py_apply(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *instructions, *function;
    Index count;
    unsigned long long x, y;
    if (!PyArg_ParseTuple(arguments, "ssnKK", &instructions, &function, &count, &x, &y)) return NULL;
    const struct Kernels *kernels = kernels_named(instructions);
    if (kernels == NULL) return NULL;
    if (strcmp(function, "tanh") != 0 && strcmp(function, "exp") != 0 && strcmp(function, "log") != 0)
        return PyErr_Format(PyExc_ValueError, "function '%s' is not tanh, exp or log", function);
    kernels->apply(function[0], count, (const float *)(uintptr_t)x, (float *)(uintptr_t)y);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"instruction_sets", py_instruction_sets, METH_NOARGS, "instruction_sets() -> names, best first"},
    {"policy", py_policy, METH_VARARGS, "policy(instructions, actor, critic, kind, choices, log_std) -> capsule"},
    {"forward", (PyCFunction)(void *)py_forward, METH_FASTCALL, "forward(policy, part, rows, x, outputs)"},
    {"act", (PyCFunction)(void *)py_act, METH_FASTCALL,
     "act(policy, rows, wide, x, noise, actions, values, log_probs) -> whether log_probs and actions are finite"},
    {"evaluate", (PyCFunction)(void *)py_evaluate, METH_FASTCALL,
     "evaluate(policy, rows, x, actions, mean_noise, old_outputs, old_std, log_probs, entropies, kls, values)"},
    {"backward", (PyCFunction)(void *)py_backward, METH_FASTCALL,
     "backward(policy, log_prob_slopes, entropy_slopes, kl_slopes, value_slopes) -> squared norm of the gradient"},
    {"adam", (PyCFunction)(void *)py_adam, METH_FASTCALL,
     "adam(policy, part, step, gradient_scale, learning_rate, beta1, beta2, epsilon)"},
    {"apply", py_apply, METH_VARARGS, "apply(instructions, function, count, x, y)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "sb3_ppo_variants._kernels",
    .m_doc = "Kernels of the array engine; see _kernels.c",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&definition); }

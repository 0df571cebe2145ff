// The networks of the papers that gradshape reproduces, by name.
import { GradshapeError, type Shape, sizeOf } from '../engine/index.js';
import { conv2d, maxPool2d } from './conv-layers.js';
import type { Layer } from './layer.js';
import { shapesAfter } from './layer.js';
import { dense, flatten, relu, tanh } from './layers.js';
import { nearestName } from './nearest-name.js';
import { type Sequential, sequential } from './sequential.js';

/** Logistic regression, one dense layer: the "LR" of Hong et al. (2020). @param inputs numbers an example */
export const lr = (inputs: number, classes: number): Sequential =>
  sequential(flatten(), dense(inputs, classes));

/** The perceptron of Hong et al. (2020): two hidden layers of 256, ReLU. @param inputs numbers an example */
export const mlp = (inputs: number, classes: number): Sequential =>
  sequential(flatten(), dense(inputs, 256), relu(), dense(256, 256), relu(), dense(256, classes));

/** Convolutions and poolings, then dense layers of the size that is left of an image. */
function convolutional(
  shape: Shape,
  features: readonly Layer[],
  head: (inputs: number) => Layer[],
): Sequential {
  const left = sizeOf(shapesAfter(features, shape).at(-1)!);
  return sequential(...features, flatten(), ...head(left));
}

const same = { padding: 'same' } as const;

/** Two 3 × 3 convolutions of 16 and 32 filters, a pooling, and a hidden layer. */
const hongCnn = (shape: Shape, classes: number, hidden: number): Sequential =>
  convolutional(
    shape,
    [conv2d(channelsOf(shape), 16, 3, same), relu(), conv2d(16, 32, 3, same), relu(), maxPool2d(2)],
    (inputs) => [dense(inputs, hidden), relu(), dense(hidden, classes)],
  );

/**
 * The CIFAR-10 network of Hong et al. (2020, Table 4): 530,090 parameters at its defaults.
 * @param shape of an image: [height, width, channels]. @default [32, 32, 3]
 */
export const cifarCnn = (shape: Shape = [32, 32, 3], classes = 10): Sequential => hongCnn(shape, classes, 64);

/**
 * The network of Hong et al. (2020) that backdoors are inserted into (after Gu et al. 2017, "BadNets"): 1,613,258
 * parameters at its defaults.
 * @param shape of an image: [height, width, channels]. @default [28, 28, 1]
 */
export const badNet = (shape: Shape = [28, 28, 1], classes = 10): Sequential => hongCnn(shape, classes, 256);

/**
 * The small tanh network that DP-SGD papers train on MNIST and Fashion-MNIST (Papernot et al. 2021, "Tempered Sigmoid
 * Activations"; Tramèr & Boneh 2021): 26,010 parameters at its defaults.
 * @param shape of an image: [height, width, channels]. @default [28, 28, 1]
 */
export const fashionTanhCnn = (shape: Shape = [28, 28, 1], classes = 10): Sequential =>
  convolutional(
    shape,
    [
      ...[
        conv2d(channelsOf(shape), 16, 8, { stride: 2, padding: 'same' }),
        tanh(),
        maxPool2d(2, { stride: 1 }),
      ],
      ...[conv2d(16, 32, 4, { stride: 2 }), tanh(), maxPool2d(2, { stride: 1 })],
    ],
    (inputs) => [dense(inputs, 32), tanh(), dense(32, classes)],
  );

/**
 * The tanh network of the same papers for CIFAR-10, six convolutions: 550,570 parameters at its defaults.
 * @param shape of an image: [height, width, channels]. @default [32, 32, 3]
 */
export const cifarTanhCnn = (shape: Shape = [32, 32, 3], classes = 10): Sequential => {
  const block = (inputs: number, outputs: number): Layer[] => [
    ...[conv2d(inputs, outputs, 3, same), tanh(), conv2d(outputs, outputs, 3, same), tanh()],
    maxPool2d(2),
  ];
  return convolutional(
    shape,
    [...block(channelsOf(shape), 32), ...block(32, 64), ...block(64, 128)],
    (inputs) => [dense(inputs, 128), tanh(), dense(128, classes)],
  );
};

function channelsOf(shape: Shape): number {
  if (shape.length === 3) return shape[2]!;
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `a convolutional network needs images, and the examples have shape [${shape.join(', ')}]; expected [height, width, channels]. ` +
      "Use 'lr' or 'mlp' for other data.",
  );
}

/** Each fits itself to the shape of an example and the number of classes. */
const models = {
  lr: (shape, classes) => lr(sizeOf(shape), classes),
  mlp: (shape, classes) => mlp(sizeOf(shape), classes),
  'cifar-cnn': cifarCnn,
  badnet: badNet,
  'fashion-tanh-cnn': fashionTanhCnn,
  'cifar-tanh-cnn': cifarTanhCnn,
} satisfies Record<string, (shape: Shape, classes: number) => Sequential>;

/** The names that `namedModel` knows. */
export const modelNames: readonly string[] = Object.keys(models);

/**
 * A network by its name, fitted to a data set.
 * @param shape of an example
 * @throws MODEL_UNKNOWN, SHAPE_MISMATCH
 * @example namedModel('badnet', [28, 28, 1], 10)
 */
export function namedModel(name: string, shape: Shape, classes: number): Sequential {
  if (Object.hasOwn(models, name)) return models[name as keyof typeof models](shape, classes);
  const near = nearestName(name, modelNames);
  throw new GradshapeError(
    'MODEL_UNKNOWN',
    `there is no model '${name}'${near === undefined ? '.' : `; did you mean '${near}'?`} There are ${modelNames.join(', ')}.`,
  );
}

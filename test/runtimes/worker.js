import { tenSteps } from './ten-steps.js';

export default {
  async fetch() {
    return Response.json({
      base: await tenSteps('base', 'lr'),
      cnn: await tenSteps('base', 'cnn'),
      relaxed: null,
    });
  },
};

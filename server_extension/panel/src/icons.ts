import { LabIcon } from '@jupyterlab/ui-components';

import anchor from '../style/icons/anchor.svg';

export const anchorIcon = new LabIcon({ name: 'mooring:anchor', svgstr: anchor });

/** For a launcher's tile among kernels, which takes the address of a picture. */
export const anchorTile =
  'data:image/svg+xml,' +
  encodeURIComponent(
    anchor.replace('#616161', '#1976d2').replace('width="16"', 'width="64" height="64"')
  );

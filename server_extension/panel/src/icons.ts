import { LabIcon } from '@jupyterlab/ui-components';

import anchor from '../style/icons/anchor.svg';

export const anchorIcon = new LabIcon({ name: 'mooring:anchor', svgstr: anchor });
